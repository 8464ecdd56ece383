"""16 bits of which few are used: scaled if the file says so, otherwise with a warning."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.images import decoding
from pipeline.images.header import RejectReason, Warn
from pipeline.images.pixels import Pixels
from pipeline.stages.filter import judgement
from tests.builders.image_files import adobe_profile, insert_chunk, scene, strip, tiff
from tests.builders.odd_images import encode
from tests.builders.params import FILTER_PARAMS

GREY = np.asarray(Image.fromarray(scene()).convert("L"))
MAX_SAMPLE = 281


def samples(pixels: np.ndarray, bits: int) -> np.ndarray:
    """The picture as a sensor of so many bits measures it, in 16 bits."""
    values: np.ndarray = (pixels.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
    return values


def png(pixels: np.ndarray, significant: bytes = b"") -> bytes:
    order = pixels if pixels.ndim == 2 else pixels[:, :, ::-1]
    data = cv2.imencode(".png", order)[1].tobytes()
    return insert_chunk(data, b"sBIT", significant, b"IDAT") if significant else data


def tiff_file(pixels: np.ndarray, white: int | None = None, orientation: int = 1) -> bytes:
    channels = 1 if pixels.ndim == 2 else 3
    entries = strip(70, 60, (16,) * channels, 1 if channels == 1 else 2, pixels.nbytes)
    if white is not None:
        entries[MAX_SAMPLE] = (3, (white,) * channels)
    entries[274] = (3, (orientation,))
    return tiff(pixels.astype("<u2").tobytes(), entries)


def load(data: bytes) -> tuple[tuple[Warn, ...], Pixels]:
    header, pixels = decoding.load(data, 1, 400)
    return header.warnings, pixels


def error(pixels: Pixels, expected: np.ndarray) -> int:
    expected = expected if expected.ndim == 3 else np.dstack([expected] * 3)
    return int(np.abs(pixels.astype(int) - expected).max())


LOW = (Warn.REDUCED_TO_8_BIT, Warn.LOW_16_BIT)
SCALED = (Warn.REDUCED_TO_8_BIT, Warn.SCALED_BY_BITS)


@pytest.mark.parametrize("picture", [GREY, scene()], ids=["grey", "colours"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_samples_are_scaled_if_the_file_names_their_bits(bits: int, picture: np.ndarray) -> None:
    values = samples(picture, bits)
    channels = 1 if picture.ndim == 2 else 3
    for data in (tiff_file(values, 2**bits - 1), png(values, bytes([bits] * channels))):
        warnings, pixels = load(data)
        assert warnings == SCALED
        assert error(pixels, picture) <= 1


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_without_a_word_of_the_file_there_is_a_warning(bits: int) -> None:
    """The values of a dark picture look the same, so that nothing is scaled."""
    values = samples(GREY, bits)
    for data in (tiff_file(values), png(values)):
        warnings, pixels = load(data)
        assert warnings == LOW
        assert error(pixels, values >> 8) == 0


@pytest.mark.parametrize("white", [4000, 1023, 65535, 0])
def test_a_largest_sample_that_is_no_white_changes_nothing(white: int) -> None:
    """Many programs write that of the picture."""
    values = samples(GREY, 12)
    warnings, pixels = load(tiff_file(values, white))
    assert warnings == LOW
    assert error(pixels, values >> 8) == 0


def test_a_picture_that_uses_its_16_bits_has_no_warning() -> None:
    values = samples(GREY, 16)
    for data in (tiff_file(values), tiff_file(values, 4095), png(values), png(values, b"\x0c")):
        warnings, pixels = load(data)
        assert warnings == (Warn.REDUCED_TO_8_BIT,)
        assert error(pixels, GREY) <= 1


@pytest.mark.parametrize("rounds", [False, True])
def test_a_dark_png_of_scaled_samples_stays_dark(rounds: bool) -> None:
    """PNG demands that samples of 12 bits are scaled to 16, by zeros, repetition or rounding."""
    dark = samples(GREY, 12) >> 4
    values = np.round(dark * (65535 / 4095)).astype(np.uint16) if rounds else dark << 4
    warnings, pixels = load(png(values, b"\x0c"))
    assert warnings == (Warn.REDUCED_TO_8_BIT,)
    assert error(pixels, values >> 8) == 0


def test_the_largest_used_value_decides() -> None:
    values = samples(GREY, 14)
    values[5, 5] = 2**14
    assert load(png(values))[0] == (Warn.REDUCED_TO_8_BIT,)
    values[5, 5] = 2**14 - 1
    assert load(png(values))[0] == LOW


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_scaled_tiff_is_turned(orientation: int) -> None:
    data = tiff_file(samples(scene(), 12), 4095, orientation)
    warnings, pixels = load(data)
    assert warnings == (Warn.ROTATED, *SCALED)
    assert error(pixels, np.rot90(scene(), 2 if orientation == 3 else -1)) <= 1


def test_colours_are_converted_after_scaling() -> None:
    file = io.BytesIO()
    Image.fromarray(scene()).save(file, "PNG", icc_profile=adobe_profile())
    expected = load(file.getvalue())[1]
    data = insert_chunk(
        png(samples(scene(), 12), b"\x0c\x0c\x0c"), b"iCCP", icc_chunk(file.getvalue())
    )
    warnings, pixels = load(data)
    assert set(warnings) == {*SCALED, Warn.COLOUR_CONVERTED}
    assert error(pixels, expected) <= 2


def icc_chunk(data: bytes) -> bytes:
    start = data.index(b"iCCP") + 4
    length = int.from_bytes(data[start - 8 : start - 4], "big")
    return data[start : start + length]


def test_transparent_pictures_are_not_scaled() -> None:
    values = np.dstack([samples(scene(), 12), np.full((60, 70), 65535, np.uint16)])
    data = cv2.imencode(".png", values)[1].tobytes()
    warnings, _ = load(insert_chunk(data, b"sBIT", b"\x0c\x0c\x0c\x10"))
    assert warnings == (Warn.TRANSPARENCY_FLATTENED, *LOW)


def test_the_filter_stores_what_predict_sees() -> None:
    data = tiff_file(samples(GREY, 12), 4095)
    judged = judgement.judge(data, FILTER_PARAMS)
    assert (judged.reason, judged.warnings) == (None, SCALED)
    assert judged.stored is not None
    assert np.array_equal(decoding.decode(judged.stored), load(data)[1])


def test_values_too_small_for_8_bits_are_blank_with_a_warning() -> None:
    judged = judgement.judge(png(GREY.astype(np.uint16)), FILTER_PARAMS)
    assert (judged.reason, judged.warnings) == (RejectReason.BLANK, LOW)


def test_a_cut_file_is_damaged() -> None:
    data = encode(Image.fromarray(samples(GREY, 12)), "TIFF")
    assert judgement.judge(data[:-10], FILTER_PARAMS).reason is RejectReason.DAMAGED
