from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.commands.review import quality
from pipeline.commands.review.catalogue import FlagKind
from pipeline.core import shards
from pipeline.images.pixels import Pixels
from tests.builders.clean_rows import clean_row
from tests.builders.images import encode_png


def scene(seed: int = 0, side: int = 256) -> Pixels:
    """Shapes with edges on a soft ground, over the whole range of brightness."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    pixels = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    for _ in range(60):
        centre = random.integers(0, side, 2).tolist()
        colour = random.integers(0, 256, 3).tolist()
        cv2.circle(pixels, centre, int(random.integers(3, side // 8)), colour, -1)
    return pixels.astype(np.uint8)


def grey(values: npt.NDArray[np.integer]) -> Pixels:
    return np.repeat(values.astype(np.uint8)[:, :, None], 3, axis=2)


def kinds(pixels: Pixels) -> list[FlagKind]:
    values = vars(quality.measure(pixels))
    return [kind for kind, check in quality.CHECKS.items() if check.is_flagged(values)]


@pytest.mark.parametrize("seed", range(5))
def test_a_sharp_and_well_exposed_image_has_no_flag(seed: int) -> None:
    assert kinds(scene(seed)) == []


@pytest.mark.parametrize("seed", range(5))
def test_an_image_out_of_focus_is_blurred(seed: int) -> None:
    assert kinds(cv2.GaussianBlur(scene(seed), (0, 0), 3).astype(np.uint8)) == [FlagKind.BLURRED]


def test_a_larger_image_is_judged_at_the_scale_of_others() -> None:
    large = scene().repeat(4, axis=0).repeat(4, axis=1)
    assert quality.measure(large) == quality.measure(scene())


@given(st.floats(0.3, 1), st.integers(0, 60))
def test_neither_contrast_nor_exposure_changes_the_sharpness(contrast: float, light: int) -> None:
    faded = np.round(scene() * 0.75 * contrast + light).astype(np.uint8)
    expected = quality.measure(scene()).sharpness
    assert quality.measure(faded).sharpness == pytest.approx(expected, rel=0.1)


def test_an_image_without_light_is_dark() -> None:
    assert kinds((scene() // 4).astype(np.uint8)) == [FlagKind.DARK]


def test_an_image_with_too_much_light_is_over_exposed() -> None:
    assert kinds(np.clip(scene() * 1.8 + 70, 0, 255).astype(np.uint8)) == [FlagKind.OVEREXPOSED]


def test_a_product_on_white_paper_is_not_over_exposed() -> None:
    pixels = np.full((256, 256, 3), 255, np.uint8)
    pixels[40:216, 40:216] = scene(side=176) // 2
    assert FlagKind.OVEREXPOSED not in kinds(pixels)


def test_a_drawing_of_few_greys_has_little_detail() -> None:
    pixels = grey(np.where(np.indices((256, 256)).sum(axis=0) // 8 % 2, 230, 20))
    assert kinds(pixels) == [FlagKind.LITTLE_DETAIL]


def test_measures_of_a_picture_computed_by_hand() -> None:
    """256 columns of 0, 1, ... 255: each grey once, and no edge inside."""
    values = quality.measure(grey(np.tile(np.arange(256), (256, 1))))
    assert values.entropy == pytest.approx(8)
    assert values.white == pytest.approx(6 / 256)
    assert values.brightest == pytest.approx(253 / 255)
    assert values.darkest == pytest.approx(12 / 255)


def test_a_single_grey_is_measured_too() -> None:
    assert quality.measure(grey(np.full((40, 40), 128))).sharpness == 0


def test_flags_have_ids_and_notes_the_clearest_case_first(world: object) -> None:
    strip = scene()[:, :80]
    dark, darker = (scene() // 4).astype(np.uint8), (scene() // 8).astype(np.uint8)
    pictures = {"a": scene(), "b": dark, "c": strip, "d": darker}
    rows = [clean_row(key, encode_png(pixels)) for key, pixels in pictures.items()]
    shards.write(Path("clean"), shards.CLEAN, rows)
    flags = quality.find_flags(Path("clean"))
    assert {kind: list(flag.ids) for kind, flag in flags.items() if flag.ids} == {
        FlagKind.DARK: ["d", "b"],
        FlagKind.ODD_SHAPE: ["c"],
    }
    assert flags[FlagKind.ODD_SHAPE].notes == ["odd shape: one side 31% of the other"]
    assert flags[FlagKind.DARK].notes[0].startswith("dark: 99 % of it below 1")
    assert quality.find_flags(Path("clean")) == flags
