"""The page of `pipeline serve` in Chromium."""

import base64
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.commands.serve.command import TOKEN
from pipeline.datasets.licences import licence_url
from tests.builders.credits import LICENCE, SOURCE, TITLE, add_credits
from tests.builders.images import noise_png
from tests.builders.served import Served
from tests.web_driver import BROWSER, DRIVER, WebDriver

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="Chromium or chromedriver is not installed"
)
# Drops or pastes a file: arguments are the kind of event, and the file in base64.
GIVE = """
const bytes = Uint8Array.from(atob(arguments[1]), (character) => character.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], "name.png", {type: "image/png"}));
const event = arguments[0] === "drop"
  ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
  : new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
document.body.dispatchEvent(event);
"""
BARS = "[...document.querySelectorAll('#bars li')].map(item => item.innerText)"
STATUS = "document.getElementById('status').textContent"
DRAWN = "document.getElementById('picture').naturalWidth"


NEIGHBOURS = "[...document.querySelectorAll('#neighbours li')]"
PICTURES = f"{NEIGHBOURS}.every(item => item.querySelector('img').naturalWidth === 48)"
LINKS = "[...document.querySelector('#neighbours li').querySelectorAll('a')].map(link => link.href)"


@pytest.fixture
def served(models: Path, striped_model: Path) -> Iterator[Served]:
    shutil.copytree(striped_model / "data/features", "data/features")
    add_credits(Path("data/raw"))
    words = [str(models), "--feedback", "kept"]
    with Served(*words, environment={TOKEN: "secret"}) as served:
        yield served


def give(browser: WebDriver, event: str, content: bytes) -> None:
    browser.run(GIVE, event, base64.b64encode(content).decode())


def test_a_picture_is_classified_by_drop_and_paste_on_a_phone_and_a_desktop(
    served: Served, tmp_path: Path
) -> None:
    with WebDriver(tmp_path) as browser:
        browser.resize(390, 844)
        browser.open(f"{served.url}/")
        give(browser, "drop", noise_png(1))
        browser.wait(f"{STATUS}.startsWith('The server needs its token')")
        browser.run("document.getElementById('token').elements.token.value = 'secret'")
        assert "401" in "".join(browser.errors())  # the console lists failed requests
        give(browser, "paste", noise_png(1))
        first, second = browser.wait(f"{BARS}.length && {BARS}")
        assert {first.split("\n")[0], second.split("\n")[0]} == {"plain", "striped"}
        assert browser.run(f"return {DRAWN}") == 48  # the picture itself
        browser.wait(f"{NEIGHBOURS}.length === 4 && {PICTURES}")
        text = browser.run(f"return {NEIGHBOURS}[0].innerText")
        caption = rf"(plain|striped) [01]\.\d\d\s+{TITLE} by owner \w{{8}}, {LICENCE}"
        assert re.fullmatch(caption, text)
        assert browser.run(f"return {LINKS}") == [SOURCE, licence_url(LICENCE)]
        browser.click("#explain")
        browser.wait(f"{DRAWN} === 32")  # the network's view, with its heatmap
        browser.run("document.querySelector('#wrong select').value = 'striped'")
        browser.click("#wrong button")
        browser.wait(f"{STATUS} === 'Thank you: the picture is kept for review as striped.'")
        (picture,) = Path("kept").glob("*/*")
        assert (picture.parent.name, picture.read_bytes()) == ("striped", noise_png(1))
        give(browser, "paste", noise_png(2))
        browser.wait("!document.getElementById('wrong').hidden")
        for width in (320, 390, 1280):
            browser.resize(width, 844)
            assert browser.run("return document.documentElement.scrollWidth") == width
        give(browser, "drop", b"no picture")
        browser.wait(f"{STATUS} === 'This cannot be read as a picture: not an image.'")
        assert browser.run(f"return {BARS}") == []
        for name in ("wrong", "similar"):
            assert browser.run(f"return document.getElementById('{name}').hidden")
        assert browser.errors() == []
