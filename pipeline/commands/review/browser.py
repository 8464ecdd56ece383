"""Open the page in a browser, without its address in the arguments of a process.

Every user of a machine can list these, and the address contains the token.
"""

import html
import os
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

PAGE = (
    '<!DOCTYPE html><meta charset="utf-8"><title>pipeline review</title>'
    '<meta http-equiv="refresh" content="0; url={url}"><a href="{url}">Open the page</a>\n'
)


@contextmanager
def open_browser(url: str) -> Iterator[None]:
    """Open `url` by a file that only this user can read, and remove that file at the end.

    A browser without access to the folder for temporary files (from a snap or Flatpak, or outside
    WSL) cannot read it: there, the user opens the printed address.
    """
    with TemporaryDirectory(prefix="pipeline-review-") as folder:  # mode 0700
        page = Path(folder, "open.html")
        descriptor = os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(PAGE.format(url=html.escape(url)))
        # In a thread, because a browser on the terminal answers only when it ends.
        Thread(target=webbrowser.open, args=(page.as_uri(),), daemon=True).start()
        yield
