"""The grid of test images."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from pipeline.images.pixels import Pixels
from pipeline.stages.evaluate.charts import RIGHT, WRONG
from pipeline.stages.evaluate.photograph_grid import (
    COLUMNS,
    GAP,
    TITLE_HEIGHT,
    describe_sample,
    draw_grid,
)
from pipeline.stages.evaluate.photographs import MAX_SIDE, PicturedSample, shrink

BLUE = (0, 0, 200)


def sample(width: int, height: int, true: str = "car", predicted: str = "car") -> PicturedSample:
    pixels = np.full((height, width, 3), BLUE, np.uint8)
    return PicturedSample(pixels, predicted, true, 0.6)


def grid(*samples: PicturedSample) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(draw_grid(samples))))


def where(pixels: Pixels, colour: str | tuple[int, ...]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels of a colour."""
    if isinstance(colour, str):
        colour = tuple(round(255 * value) for value in to_rgb(colour))
    rows, columns = np.nonzero((pixels == colour).all(axis=2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_titles_are_green_when_right_and_red_when_wrong_and_above_their_images() -> None:
    pixels = grid(sample(256, 100), sample(256, 100, true="bike"))
    green, red, blue = (where(pixels, colour) for colour in (RIGHT, WRONG, BLUE))
    assert GAP <= green[0] < green[2] <= GAP + MAX_SIDE < red[0] < red[2] <= 2 * (GAP + MAX_SIDE)
    assert green[3] < blue[1] == GAP + TITLE_HEIGHT
    assert red[3] < blue[1]
    assert blue[2] == 2 * (GAP + MAX_SIDE)


def test_a_title_says_what_was_predicted_and_what_is_true() -> None:
    assert describe_sample(sample(8, 8, true="bike")) == "car (bike)\n60 %"
    long = describe_sample(sample(8, 8, true="t" * 30, predicted="p$_$"))
    assert long == f"p$_$\n({'t' * 12}…{'t' * 11})\n60 %"


@pytest.mark.parametrize("name", ["W" * 24, "i" * 24, "$\\frac{a}$"])
def test_long_titles_stay_above_their_image(name: str) -> None:
    pixels = grid(*[sample(256, 256, true=name, predicted=name)] * 2)
    beside = pixels[: GAP + TITLE_HEIGHT, GAP + MAX_SIDE : 2 * GAP + MAX_SIDE]
    assert (beside == 255).all()
    assert (pixels[GAP : GAP + TITLE_HEIGHT] < 200).any()
    assert (pixels[0] == 255).all()
    assert (pixels[GAP + TITLE_HEIGHT - 2 : GAP + TITLE_HEIGHT] == 255).all()


def test_rows_are_as_high_as_their_highest_image_and_small_images_are_enlarged() -> None:
    pixels = grid(*[sample(8, 4)] * COLUMNS, sample(30, 60))
    assert pixels.shape[1] == COLUMNS * (MAX_SIDE + GAP) + GAP
    first, second = MAX_SIDE // 2, MAX_SIDE
    assert pixels.shape[0] == GAP + 2 * (TITLE_HEIGHT + GAP) + first + second
    left, top, right, bottom = where(pixels[-GAP - second :], BLUE)
    assert (left, right) == (GAP + MAX_SIDE // 4, GAP + MAX_SIDE // 4 + MAX_SIDE // 2)
    assert (top, bottom) == (0, second)


def test_no_images_are_a_picture_that_says_so() -> None:
    pixels = grid()
    assert (pixels < 128).any()


def test_images_are_shrunk_to_the_grid_and_not_enlarged() -> None:
    assert shrink(np.zeros((600, 300, 3), np.uint8)).shape == (256, 128, 3)
    assert shrink(np.zeros((30, 60, 3), np.uint8)).shape == (30, 60, 3)
