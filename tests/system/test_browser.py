"""The report in Chromium, at the widths of a desktop and a phone."""

import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.builders.stages import REPORT

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")


def browse(*options: str) -> str:
    assert BROWSER
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={Path('profile').resolve()}",
        *options,
        REPORT.resolve().as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.parametrize("width", [1280, 500])
@pytest.mark.usefixtures("figures")
def test_the_report_is_drawn_to_its_end(width: int) -> None:
    browse(f"--window-size={width},3000", f"--screenshot={Path('page.png').resolve()}")
    screenshot = cv2.imread("page.png")
    assert screenshot is not None
    assert screenshot.shape[:2] == (3000, width)
    # Text, tables and charts all the way down: no tall band of one colour.
    drawn = np.flatnonzero(screenshot.std(axis=(1, 2)) > 1)
    assert drawn[-1] > 2500
    assert np.diff(drawn).max() < 200
    # Charts fill the page width and end before its edge.
    assert screenshot[:, -8:].std() < 1


@pytest.mark.usefixtures("figures")
def test_the_browser_reads_the_whole_report() -> None:
    text = browse("--dump-dom")
    assert '<h2 id="limits">Limits</h2>' in text
    assert text.count("<img") == REPORT.read_text().count("<img")
