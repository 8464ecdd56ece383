"""`pipeline review` as a process, used with keys and mouse in a real browser."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import joblib
import pytest

from pipeline.core import shards
from pipeline.images import hand_lists
from pipeline.params import Params, with_overrides
from pipeline.stages.features import __main__ as features
from pipeline.stages.filter import __main__ as filtering
from pipeline.stages.split import __main__ as split
from tests.builders.verdicts import read_verdicts
from tests.web_driver import ARROW_RIGHT, BROWSER, DRIVER, ENTER, ESCAPE, WebDriver

needs_browser = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="Chromium or chromedriver is not installed"
)
FOLDER = Path("datasets/stripes")
RAW, CLEAN, SPLIT = Path("data/raw"), Path("data/clean"), Path("data/split.csv")
VERDICTS = Path("data/verdicts.csv")
HOSTILE = "plain/<img src=x onerror=document.title=1>.png"


def run_filter() -> None:
    filtering.main(FOLDER, RAW, CLEAN, VERDICTS)


def write_lock(dataset: str) -> None:
    """dvc.lock, as far as the command reads it, after a run of filter on a data set."""
    stage = {
        "params": {"params.yaml": {"dataset": {"name": dataset}}},
        "outs": [{"path": str(CLEAN), "md5": "0" * 32}],
    }
    Path("dvc.lock").write_text(json.dumps({"stages": {"filter": stage}}))


def write_data(stripes: Params) -> None:
    """Run the stages over plain and striped images, some with the other label.

    One image has a hostile name.
    """
    Path("params.yaml").write_text(json.dumps(stripes.model_dump()))
    FOLDER.mkdir(parents=True)
    rows = shards.columns(RAW, shards.RAW.names).to_pylist()
    rows[0]["name"] = HOSTILE
    for row in rows[::8]:
        row["label"] = "striped"  # every second image is
    shards.write(RAW, shards.RAW, rows)
    write_lock("stripes")
    with joblib.parallel_config("threading"):
        run_filter()
        split.main(CLEAN, VERDICTS, SPLIT, Path("data/leaks.csv"))
        features.main(CLEAN, SPLIT, Path("data/features"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, striped_data: Path, params: Params) -> Path:
    folder = tmp_path_factory.mktemp("stripes")
    shutil.copytree(striped_data / "data", folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        write_data(with_overrides(params, {"dataset.name": "stripes"}))
    return folder


@pytest.fixture
def mislabelled(world: Path, built: Path) -> list[str]:
    """The ids of images with a wrong label, in the project of the working directory."""
    shutil.copytree(built, world, dirs_exist_ok=True)
    ids = shards.columns(RAW, ["id"]).column("id").to_pylist()
    return [str(key) for key in ids[::8]]


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
    return [str(key) for key in browser.run("return images.map((image) => image.id)")]


def open_page(browser: WebDriver, url: str) -> None:
    browser.open(url)
    browser.wait("images.length && [...document.images].every((image) => image.complete)")


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
    verdicts = {row.id: row for row in read_verdicts(VERDICTS)}
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
        browser.wait("images.length === 48")
        names = browser.run("return [...document.querySelectorAll('.name')].map((n) => n.title)")
        assert sum(name.startswith(HOSTILE) for name in names) == 1
        assert browser.run("return document.title") == "Review: stripes"
        browser.run("document.getElementById('label').value = '0'")
        browser.run("document.getElementById('label').dispatchEvent(new Event('change'))")
        browser.wait("images.length < 48")
        assert browser.run("return images.every((image) => image.label === 'plain')")
        assert browser.errors() == []


@needs_browser
def test_a_narrow_window_shows_the_page_and_enlarges_images(review: Review, tmp_path: Path) -> None:
    with WebDriver(tmp_path, 500) as browser:
        open_page(browser, review.url)
        assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
        browser.press(ENTER)
        assert browser.run("return document.getElementById('large').open")
        browser.press(ARROW_RIGHT, "x")
        assert summary(browser) == "1 to reject"
        assert browser.run("return choices.has(images[1].id)")
        browser.press(ESCAPE)
        browser.wait("images[1].card === document.activeElement")
        assert not browser.run("return document.getElementById('large').open")


# Sends no decisions before `release()` is called, and counts their requests.
DELAYED_SAVE = """
const send = window.fetch;
window.requests = 0;
window.fetch = async (path, options) => {
  if (path === "decisions") {
    window.requests += 1;
    await new Promise((resolve) => (window.release = resolve));
  }
  return send(path, options);
};
"""


@needs_browser
def test_choices_made_during_a_save_stay(review: Review, tmp_path: Path) -> None:
    with WebDriver(tmp_path) as browser:
        open_page(browser, review.url)
        first, second, third, *_ = ids(browser)
        browser.run(DELAYED_SAVE)
        browser.press("x", ARROW_RIGHT, "x", "w")
        browser.press("k", ARROW_RIGHT, "x", "w")  # another choice for the second, and a third
        assert browser.run("return [requests, document.getElementById('save').disabled]") == [
            1,
            True,
        ]
        browser.run("release()")
        browser.wait("!document.getElementById('save').disabled")
        assert browser.run("return [...choices.keys()]") == [second, third]
        assert summary(browser).startswith("Lines appended: 2 to reject.csv.")
        assert summary(browser).endswith(" 1 to reject, 1 to keep")
        assert browser.errors() == []
    assert set(hand_lists.read_rejects(FOLDER)) == {first, second}


@needs_browser
def test_keys_that_are_held_down_act_once(review: Review, tmp_path: Path) -> None:
    with WebDriver(tmp_path) as browser:
        open_page(browser, review.url)
        browser.run(DELAYED_SAVE)
        browser.press("x")
        for key in ("x", "w", "Enter"):
            event = f"new KeyboardEvent('keydown', {{ key: '{key}', repeat: true, bubbles: true }})"
            browser.run(f"images[0].card.dispatchEvent({event})")
        assert browser.run("return [requests, choices.size]") == [0, 1]
        assert not browser.run("return document.getElementById('large').open")


@needs_browser
def test_saving_the_last_images_closes_the_enlarged_one(review: Review, tmp_path: Path) -> None:
    with WebDriver(tmp_path) as browser:
        open_page(browser, review.url)
        browser.run("images.forEach((image) => image.reject.click())")
        browser.press(ENTER, ARROW_RIGHT, "w")
        browser.wait("!images.length")
        browser.wait("document.getElementById('summary').textContent.startsWith('Lines appended')")
        assert not browser.run("return document.getElementById('large').open")
        assert browser.errors() == []


def test_without_features_only_the_pixels_are_judged(mislabelled: list[str]) -> None:
    shutil.rmtree("data/features")
    review = Review()
    assert review.lines[0] == (
        "warning: there are no features in data/features: run `dvc repro features` first\n"
    )
    assert "of 48 images worth a look" in review.lines[1]
    assert review.interrupt() == "review: ended; appended 0 to reject.csv and 0 to relabel.csv\n"


def test_images_of_another_data_set_are_refused_before_anything_is_read(
    mislabelled: list[str],
) -> None:
    write_lock("dots")
    words = [sys.executable, "-m", "pipeline", "review", "--no-browser"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "data/clean has the images of data set 'dots'" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
