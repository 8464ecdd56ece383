"""The report and the page of the data in Chromium, at the widths of a desktop and a phone."""

from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest

from pipeline.core import shards
from pipeline.core.skipped_csv import SkippedRow
from pipeline.core.split_csv import scan_split
from pipeline.core.verdicts_csv import VerdictRow
from pipeline.images import gallery
from pipeline.stages.describe import facts, page
from pipeline.stages.describe.facts import CLEAN_COLUMNS, Data
from pipeline.stages.describe.skipped import count_skipped
from tests.builders.stages import CLEAN, REPORT, SPLIT
from tests.web_driver import BROWSER, DRIVER, ENTER, WebDriver

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="Chromium or chromedriver is not installed"
)
WIDTHS = (390, 1280, 1920)
REQUESTS = "performance.getEntriesByType('resource').filter(entry => !/^data:/.test(entry.name))"
LARGEST_GAP = """
const selector = "p, h1, h2, h3, tr, svg, img, pre, li, summary, .card";
const boxes = [...document.body.querySelectorAll(selector)]
  .map(element => element.getBoundingClientRect()).filter(box => box.height);
let bottom = 0, largest = 0;
for (const box of boxes.sort((a, b) => a.top - b.top)) {
  largest = Math.max(largest, box.top - bottom);
  bottom = Math.max(bottom, box.bottom);
}
return largest;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with WebDriver(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


def write_data_page() -> Path:
    """data.html of the images in the working directory."""
    clean = shards.columns(CLEAN, CLEAN_COLUMNS)
    ids, labels = (clean.column(name).to_pylist() for name in ("id", "label"))
    verdicts = [
        VerdictRow(key, key, label, "", "keep", "", "", "")
        for key, label in zip(ids, labels, strict=True)
    ]
    data = Data(lambda: verdicts, clean, lambda: scan_split(SPLIT), [], 0, {})
    skipped = count_skipped([SkippedRow("a-long-name-without-blanks" * 9, "", "", "gone")])
    origin = page.Origin("stripes", "photos.zip", "")
    with joblib.parallel_config("threading"):
        built = page.build_page(data, facts.count_images(data), origin, skipped, CLEAN, CLEAN)
    path = Path("data.html")
    path.write_text(gallery.render("stages/describe/data.html", built), encoding="utf-8")
    return path


def assert_fits(browser: WebDriver, path: Path) -> None:
    """Check that a page needs no scrolling to the side, no request, and breaks no rule."""
    for width in WIDTHS:
        browser.resize(width, 844)
        browser.open(path.resolve().as_uri())
        assert browser.run("return document.documentElement.scrollWidth") == width
        assert browser.run(f"return {REQUESTS}.length") == 0
        broken = "[...document.images].filter(image => !image.naturalWidth).length"
        assert browser.run(f"return {broken}") == 0
    assert browser.errors() == []


@pytest.mark.usefixtures("figures")
def test_pages_fit_screens_of_any_width_and_request_nothing(browser: WebDriver) -> None:
    assert_fits(browser, REPORT)
    assert_fits(browser, write_data_page())


@pytest.mark.usefixtures("figures")
def test_the_verdict_and_the_use_are_on_the_first_screen(browser: WebDriver) -> None:
    for width, height in ((390, 844), (1280, 800)):
        browser.resize(width, height)
        browser.open(REPORT.resolve().as_uri())
        for selector in (".verdicts", ".use pre"):
            bottom = f"document.querySelector('{selector}').getBoundingClientRect().bottom"
            assert browser.run(f"return {bottom}") < height


@pytest.mark.usefixtures("figures")
def test_charts_say_the_number_under_the_pointer_and_under_a_finger(browser: WebDriver) -> None:
    browser.resize(1280, 900)
    browser.open(REPORT.resolve().as_uri())
    readable = (
        "[...document.querySelectorAll('.readout')]"
        ".filter(text => getComputedStyle(text).visibility == 'visible')"
        ".map(text => text.textContent)"
    )
    assert browser.run(f"return {readable}") == []
    browser.hover(".mark .right")
    (count,) = browser.run(f"return {readable}")
    assert count.startswith("plain as plain: ")
    browser.hover("h1")
    assert browser.run(f"return {readable}") == []
    browser.run("document.querySelector('.mark:has(.bubble)').focus({preventScroll: true})")
    (of_bin,) = browser.run(f"return {readable}")
    assert of_bin.startswith("as trained, ")


@pytest.mark.usefixtures("figures")
def test_a_picture_opens_large_by_mouse_and_by_keyboard(browser: WebDriver) -> None:
    browser.resize(1280, 900)
    browser.open(write_data_page().resolve().as_uri())
    width = "document.querySelector('.zoom img').getBoundingClientRect().width"
    small = browser.run(f"return {width}")
    browser.click(".zoom summary")
    assert browser.run(f"return {width}") > 5 * small
    browser.click(".zoom summary")
    assert browser.run(f"return {width}") == small
    browser.run("document.querySelector('.zoom summary').focus()")
    browser.press(ENTER)
    assert browser.run(f"return {width}") > 5 * small


@pytest.mark.usefixtures("figures")
def test_the_report_is_drawn_to_its_end(browser: WebDriver) -> None:
    for width in (1280, 390):
        browser.resize(width, 844)
        browser.open(REPORT.resolve().as_uri())
        assert browser.run(LARGEST_GAP) < 100
