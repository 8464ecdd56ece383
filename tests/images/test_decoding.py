import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.core.errors import PipelineError
from pipeline.images import decoding
from pipeline.images.header import Unreadable
from tests.builders.odd_images import (
    BLUE,
    GREY,
    RED,
    ROTATED_BY_90,
    SLOPPY,
    assert_colours,
    corners,
    encode,
    exif_with_entry,
    insert_exif,
    orientation_exif,
)


def test_scaling_down_keeps_at_least_one_pixel_per_side() -> None:
    _, pixels = decoding.load(encode(corners(32, 20_000), "PNG"), 1, 16)
    assert pixels.shape == (1, 800, 3)
    _, pixels = decoding.load(encode(corners(20_000, 1), "PNG"), 1, 1)
    assert pixels.shape[1:] == (1, 3)


@settings(derandomize=True, max_examples=60)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(16, 100))
def test_a_loaded_image_keeps_its_shape_and_fits_the_side(
    height: int, width: int, side: int
) -> None:
    _, pixels = decoding.load(encode(corners(height, width), "BMP"), 1, side)
    new_height, new_width = pixels.shape[:2]
    rounding = (new_height + new_width) / 2 + 1
    assert min(new_height, new_width) <= side
    assert new_height * new_width <= decoding.MAX_SQUARES * side**2 + rounding
    assert abs(new_height * width - new_width * height) <= (height + width) / 2 + 1
    if (new_height, new_width) != (height, width):
        largest = (
            min(new_height, new_width) == side
            or new_height * new_width >= decoding.MAX_SQUARES * side**2 - rounding
        )
        assert largest


@pytest.mark.parametrize("exif", [exif_with_entry(ROTATED_BY_90), *SLOPPY.values()])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_decoding_a_stored_image_never_rotates(form: str, exif: bytes) -> None:
    pixels = decoding.decode(insert_exif(encode(corners(), form), exif))
    assert_colours(pixels, RED, GREY, BLUE, GREY)
    assert pixels.shape == (48, 64, 3)


def test_a_stored_image_that_does_not_decode_is_an_error() -> None:
    with pytest.raises(PipelineError, match="a stored image does not decode: delete data/clean"):
        decoding.decode(b"\xff\xd8\xff")


@pytest.mark.parametrize(
    ("least", "size"),
    [
        (None, (400, 600)),
        (401, (400, 600)),
        (201, (400, 600)),
        (200, (200, 300)),
        (101, (200, 300)),
        (100, (100, 150)),
        (50, (50, 75)),
        (1, (50, 75)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_suffices(
    least: int | None, size: tuple[int, int]
) -> None:
    assert decoding.decode(encode(corners(400, 600), "JPEG"), least).shape == (*size, 3)


def test_a_smaller_scale_shows_the_same_picture() -> None:
    data = encode(corners(400, 600), "JPEG", quality=95)
    small = decoding.decode(data, 100)
    whole = cv2.resize(decoding.decode(data), (150, 100), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - whole).mean() < 1
    assert np.abs(small[10, 10].astype(int) - RED).max() < 8  # not blue: the order stays RGB


def test_other_formats_are_decoded_at_full_size() -> None:
    picture = corners(400, 600)
    for form in ("PNG", "WEBP"):
        options = {"lossless": True} if form == "WEBP" else {}
        assert np.array_equal(decoding.decode(encode(picture, form, **options), 10), picture)


def test_a_jpeg_of_an_odd_size_is_decoded_too() -> None:
    assert decoding.decode(encode(corners(401, 603), "JPEG"), 50).shape == (51, 76, 3)


def test_damage_is_an_error_at_any_scale() -> None:
    for data in (b"no image", b"\xff\xd8\xff nor this"):
        for least in (None, 10):
            with pytest.raises(PipelineError, match="delete data/clean"):
                decoding.decode(data, least)


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("orientation", [1, 6])
def test_strict_decoding_gives_exactly_the_pixels_of_opencv(
    quality: int, mode: str, subsampling: int, progressive: bool, orientation: int
) -> None:
    random = np.random.default_rng(quality)
    picture = cv2.resize(random.integers(0, 256, (9, 13, 3), np.uint8), (83, 61))
    noisy = np.clip(picture + random.normal(0, 20, picture.shape), 0, 255).astype(np.uint8)
    data = encode(
        Image.fromarray(noisy).convert(mode),
        "JPEG",
        quality=quality,
        subsampling=subsampling,
        progressive=progressive,
        exif=orientation_exif(orientation),
    )
    header, pixels = decoding.load(data, 50, 400)
    assert np.array_equal(pixels, decoding.decode_upright(header, data))


@pytest.mark.parametrize(
    ("code", "expected"), [(-215, Unreadable), (decoding.OUT_OF_MEMORY, MemoryError)]
)
def test_an_opencv_error_is_unreadable_unless_memory_ran_out(
    code: int, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        error = cv2.error("refused")
        error.code = code
        raise error

    monkeypatch.setattr(decoding, "_shrink", refuse)
    with pytest.raises(expected):
        decoding.load(encode(corners(), "JPEG"), 50, 400)


SETTINGS = """
import cv2
from PIL import Image
from pipeline.images import decoding
from pipeline.stages.filter import judgement

def settings():
    return cv2.getNumThreads(), Image.MAX_IMAGE_PIXELS

before = settings()
cv2.setNumThreads(3)
{call}
print(cv2.getNumThreads(), before[1] is None, settings()[1])
"""
PNG = f"bytes.fromhex('{encode(corners(), 'PNG').hex()}')"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("", "3 False 89478485"),  # an import changes nothing
        (f"decoding.load({PNG}, 1, 400)", "1 False None"),
        (f"decoding.check_header({PNG}, 1)", "3 False None"),
        (f"decoding.decode({PNG})", "1 False 89478485"),
    ],
)
def test_libraries_are_configured_where_decoding_starts(call: str, expected: str) -> None:
    script = SETTINGS.format(call=call)
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert output.stdout.decode().strip() == expected
