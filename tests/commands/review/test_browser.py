import stat
import webbrowser
from pathlib import Path
from queue import Queue
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from pipeline.commands.review.browser import open_browser

URL = "http://127.0.0.1:8765/secret/"


def test_the_address_is_in_a_private_file_and_not_in_the_arguments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: Queue[str] = Queue()
    monkeypatch.setattr(webbrowser, "open", opened.put)
    with open_browser(URL):
        argument = opened.get(timeout=10)
        assert "secret" not in argument
        page = Path(url2pathname(urlsplit(argument).path))
        assert f'content="0; url={URL}"' in page.read_text()
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700
    assert not page.parent.exists()
