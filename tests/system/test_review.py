"""`pipeline review` as a process, used with keys and mouse in a real browser."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import joblib
import numpy as np
import pytest

from pipeline.core import shards
from pipeline.core.verdicts_csv import read_verdicts
from pipeline.images import hand_lists
from pipeline.params import Params, with_overrides
from pipeline.stages.features import __main__ as features
from pipeline.stages.filter import __main__ as filtering
from pipeline.stages.split import __main__ as split
from tests.web_driver import ARROW_RIGHT, BROWSER, DRIVER, ENTER, ESCAPE, WebDriver

needs_browser = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="Chromium or chromedriver is not installed"
)
FOLDER = Path("datasets/stripes")
RAW, CLEAN, SPLIT = Path("data/raw"), Path("data/clean"), Path("data/split.csv")
HOSTILE = "plain/<img src=x onerror=document.title=1>.png"


def run_filter() -> None:
    filtering.main(FOLDER, RAW, CLEAN, Path("data/verdicts.csv"))


@pytest.fixture
def mislabelled(dataset: Path, params: Params) -> list[str]:
    """The ids of plain and striped images with the other label; one image has a hostile name."""
    stripes_params = with_overrides(params, {"dataset.name": "stripes"})
    Path("params.yaml").write_text(json.dumps(stripes_params.model_dump()))
    FOLDER.mkdir(parents=True)
    rows = shards.columns(RAW, shards.RAW.names).to_pylist()
    rows[0]["name"] = HOSTILE
    wrong = rows[::8]
    for row in wrong:
        row["label"] = "striped"  # every second image is
    shards.write(RAW, shards.RAW, rows)
    with joblib.parallel_config("threading"):
        run_filter()
        split.main(CLEAN, Path("data/verdicts.csv"), SPLIT, Path("data/leaks.csv"))
        features.main(CLEAN, SPLIT, Path("data/features"))
    return [row["id"] for row in wrong]


class Review:
    """The command as a process."""

    def __init__(self, *options: str) -> None:
        words = [sys.executable, "-m", "pipeline", "review", "--no-browser", *options]
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            if "http://" in line:
                break
        self.url = self.lines[-1].split()[1]

    def interrupt(self) -> str:
        """What Ctrl-C makes it print."""
        self.process.send_signal(signal.SIGINT)
        rest, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        return rest


@pytest.fixture
def review(mislabelled: list[str]) -> Iterator[Review]:
    review = Review()
    yield review
    if review.process.poll() is None:
        review.process.kill()
        review.process.communicate()


def ids(browser: WebDriver) -> list[str]:
    """The ids of the images on the page, in their order."""
    return [str(key) for key in browser.run("return shown.map((image) => image.id)")]


def open_page(browser: WebDriver, url: str) -> None:
    browser.open(url)
    browser.wait("shown.length && [...document.images].every((image) => image.complete)")


def summary(browser: WebDriver) -> str:
    return str(browser.run("return document.getElementById('summary').textContent"))


@needs_browser
def test_keys_and_mouse_choose_and_save_appends(
    review: Review, mislabelled: Sequence[str], tmp_path: Path
) -> None:
    with WebDriver(tmp_path) as browser:
        open_page(browser, review.url)
        first, second, third, *_ = before = ids(browser)
        assert first in mislabelled
        browser.press("s", ARROW_RIGHT, "x", ARROW_RIGHT, "k")
        assert summary(browser) == "1 to reject, 1 to relabel, 1 to keep"
        browser.press("u")  # takes the last one back
        assert summary(browser) == "1 to reject, 1 to relabel"
        browser.click(".photo:nth-child(3) .keep")
        assert list(FOLDER.iterdir()) == []
        browser.click("#save")
        browser.wait("document.getElementById('summary').textContent.startsWith('Lines appended')")
        assert ids(browser) == before[3:]
        assert browser.errors() == []
    assert set(hand_lists.read_rejects(FOLDER)) == {second}
    labels = {key: row.label for key, row in hand_lists.read_corrections(FOLDER).items()}
    assert labels[first] == "plain"
    assert labels.keys() == {first, third}
    assert review.interrupt() == (
        "review: ended; appended 1 to reject.csv and 2 to relabel.csv; `dvc repro` applies them\n"
    )
    with joblib.parallel_config("threading"):
        run_filter()
    verdicts = {row.id: row for row in read_verdicts(Path("data/verdicts.csv"))}
    assert verdicts[second].reason == "by_hand"
    assert (verdicts[first].label, verdicts[first].source_label) == ("plain", "striped")
    assert verdicts[third].source_label == ""


@needs_browser
def test_hostile_names_are_text_and_filters_choose_the_images(
    review: Review, mislabelled: Sequence[str], tmp_path: Path
) -> None:
    with WebDriver(tmp_path) as browser:
        open_page(browser, review.url)
        browser.run("const s = document.getElementById('reason'); s.value = 'everything';")
        browser.run("document.getElementById('reason').dispatchEvent(new Event('change'))")
        browser.wait("shown.length === 48")
        names = browser.run("return [...document.querySelectorAll('.name')].map((n) => n.title)")
        assert sum(name.startswith(HOSTILE) for name in names) == 1
        assert browser.run("return document.title") == "Review: stripes"
        browser.run("document.getElementById('label').value = '0'")
        browser.run("document.getElementById('label').dispatchEvent(new Event('change'))")
        browser.wait("shown.length < 48")
        assert browser.run("return shown.every((image) => image.label === 'plain')")
        assert browser.errors() == []


@needs_browser
@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_is_drawn_and_an_image_is_enlarged(
    review: Review, tmp_path: Path, width: int
) -> None:
    with WebDriver(tmp_path, width) as browser:
        open_page(browser, review.url)
        sizes = browser.run("return [document.documentElement.scrollWidth, innerWidth]")
        assert sizes[0] <= sizes[1]  # nothing to scroll sideways
        page = cv2.imdecode(np.frombuffer(browser.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        assert page is not None
        browser.press(ENTER)
        assert browser.run("return document.getElementById('large').open")
        browser.press(ARROW_RIGHT, "x")
        assert summary(browser) == "1 to reject"
        assert browser.run("return choices.has(shown[1].id)")
        browser.press(ESCAPE)
        assert not browser.run("return document.getElementById('large').open")
        browser.wait("shown[1].card === document.activeElement")


def test_without_features_only_the_pixels_are_judged(dataset: Path, params: Params) -> None:
    stripes_params = with_overrides(params, {"dataset.name": "stripes"})
    Path("params.yaml").write_text(json.dumps(stripes_params.model_dump()))
    FOLDER.mkdir(parents=True)
    review = Review()
    assert review.lines[0] == (
        "warning: there are no features in data/features: run `dvc repro features` first\n"
    )
    assert "of 48 images are worth a look" in review.lines[1]
    assert review.interrupt() == "review: ended; appended 0 to reject.csv and 0 to relabel.csv\n"
