import numpy as np
import pytest

from pipeline.images.pixels import Grey
from pipeline.stages.filter.near_duplicates import appearance
from pipeline.stages.filter.near_duplicates.appearance import (
    MIN_SIDE,
    NONE,
    PATCH,
    PER_SCALE,
    PLACE,
    SCALES,
    THUMBNAIL,
    describe,
)
from tests.builders.photographs import draw_photograph, mirror


def test_a_photograph_has_patches_inside_each_scale_and_a_thumbnail() -> None:
    described = describe(draw_photograph(0, 150, 200))
    places = np.frombuffer(described.patch_places, PLACE)
    assert len(described.patch_hashes) == 8 * len(places)
    assert 0 < np.bincount(places["scale"]).max() <= PER_SCALE
    sides = np.array(SCALES)[places["scale"]]
    assert (places["y"] + PATCH <= sides).all()
    assert (places["x"] + PATCH <= np.round(sides * 4 / 3)).all()
    assert len(described.thumbnail) == THUMBNAIL * THUMBNAIL * 4 // 3


def test_hashes_have_63_bits() -> None:
    hashes = np.frombuffer(describe(draw_photograph(1)).patch_hashes, np.uint64)
    assert hashes.max() < 2**63
    assert hashes.max() > 2**61


@pytest.mark.parametrize("seed", range(4))
def test_a_mirrored_image_has_the_same_hashes_with_the_other_flag(seed: int) -> None:
    grey = draw_photograph(seed, 144, 192)
    straight, mirrored = (describe(image) for image in (grey, np.ascontiguousarray(mirror(grey))))
    entries = []
    for described, flip in ((straight, False), (mirrored, True)):
        places = np.frombuffer(described.patch_places, PLACE)
        hashes = np.frombuffer(described.patch_hashes, np.uint64)
        flags = places["mirrored"].astype(bool) ^ flip
        entries.append(set(zip(hashes.tolist(), places["y"].tolist(), flags.tolist(), strict=True)))
    shared = len(entries[0] & entries[1])
    assert shared > 0.8 * len(entries[0])  # rounding may change a bit near zero


@pytest.mark.parametrize(
    "grey",
    [
        draw_photograph(0, MIN_SIDE - 1, 200),
        draw_photograph(0, 70, 300),
        np.full((150, 200), 90, np.uint8),
        np.tile(np.arange(200, dtype=np.uint8), (150, 1)),
    ],
    ids=["small", "long", "one colour", "gradient"],
)
def test_images_that_are_small_long_or_plain_have_no_appearance(grey: Grey) -> None:
    assert describe(grey) == NONE


def test_an_object_before_an_even_ground_has_no_appearance() -> None:
    grey = np.full((200, 200), 250, np.uint8)
    grey[70:130, 60:140] = draw_photograph(0, 60, 80)
    assert describe(grey) == NONE


def test_the_smallest_image_has_an_appearance() -> None:
    assert describe(draw_photograph(0, MIN_SIDE, MIN_SIDE)) != NONE


def test_only_blobs_of_some_contrast_have_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = draw_photograph(3)
    monkeypatch.setattr(appearance, "MIN_CONTRAST", 255)
    assert describe(grey) == NONE
