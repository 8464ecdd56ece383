"""HEIC and AVIF: drawn here, read as other formats are, or refused for the same reasons."""

import io
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from pipeline.images import decoding
from pipeline.images.formats import heif
from pipeline.images.header import RejectReason, Unreadable, Warn, read_header
from pipeline.images.matrix_profile import D65, SRGB_CURVE, Chromaticities, rgb_profile

pillow_heif.register_heif_opener()  # in the tests alone, which encode with it

WIDTH, HEIGHT = 130, 90
PICTURE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
PICTURE[:, : WIDTH // 2] = (250, 20, 20)
PICTURE[HEIGHT // 2 :, WIDTH // 2 :] = (20, 20, 250)
PICTURE[: HEIGHT // 2, WIDTH // 2 :] = (20, 230, 20)
DISPLAY_P3 = Chromaticities(D65, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
FORMATS = ("HEIF", "AVIF")
both = pytest.mark.parametrize("form", FORMATS)


def encode(form: str, image: Image.Image | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (image or Image.fromarray(PICTURE)).save(file, form, **options)
    return file.getvalue()


SIMPLE = {form: encode(form) for form in FORMATS}


def exif(orientation: int) -> bytes:
    values = Image.Exif()
    values[0x0112] = orientation
    return values.tobytes()


def load(data: bytes, max_megapixels: float = 1) -> tuple[tuple[Warn, ...], np.ndarray]:
    header, pixels = decoding.load(data, max_megapixels, 400)
    return header.warnings, pixels


def reject_reason(data: bytes, max_megapixels: float = 1) -> tuple[RejectReason, str]:
    with pytest.raises(Unreadable) as caught:
        decoding.load(data, max_megapixels, 400)
    return caught.value.reason, caught.value.format


def difference(pixels: np.ndarray, expected: np.ndarray) -> float:
    assert pixels.shape == expected.shape
    return float(np.abs(pixels.astype(int) - expected).mean())


@both
def test_pixels_are_those_that_were_encoded(form: str) -> None:
    header = read_header(SIMPLE[form])
    assert (header.format, header.width, header.height) == (form, WIDTH, HEIGHT)
    warns, pixels = load(SIMPLE[form])
    assert warns == ()
    assert difference(pixels, PICTURE) < 3


@both
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_once(form: str, orientation: int) -> None:
    """Encoders write it twice: into the boxes irot and imir, and into EXIF."""
    expected = load(encode("JPEG", exif=exif(orientation), quality=95))
    warns, pixels = load(encode(form, exif=exif(orientation)))
    assert warns == expected[0]
    assert difference(pixels, expected[1]) < 3


@both
def test_an_orientation_in_exif_alone_does_not_count(form: str) -> None:
    """The boxes decide: in EXIF it only says how the camera was held."""
    data = encode(form, exif=exif(6))
    place = data.index(b"irot")
    upright = data[: place + 4] + b"\0" + data[place + 5 :]
    warns, pixels = load(upright)
    assert warns == ()
    assert difference(pixels, PICTURE) < 3


@both
def test_transparency_becomes_white(form: str) -> None:
    image = Image.fromarray(PICTURE)
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[:, WIDTH // 2 :] = 255
    image.putalpha(Image.fromarray(alpha))
    warns, pixels = load(encode(form, image))
    assert warns == (Warn.TRANSPARENCY_FLATTENED,)
    assert pixels[:, : WIDTH // 2 - 8].min() > 245
    assert difference(pixels[:, WIDTH // 2 + 8 :], PICTURE[:, WIDTH // 2 + 8 :]) < 4


@both
def test_the_first_of_several_pictures_counts(form: str) -> None:
    image = Image.fromarray(PICTURE)
    warns, pixels = load(encode(form, save_all=True, append_images=[image.rotate(180)]))
    assert warns == (Warn.FIRST_FRAME_ONLY,)
    assert difference(pixels, PICTURE) < 3


@both
def test_grey_pictures_are_read(form: str) -> None:
    grey = Image.fromarray(PICTURE).convert("L")
    _, pixels = load(encode(form, grey))
    assert difference(pixels, np.array(grey.convert("RGB"))) < 3


def test_the_tiles_of_a_phone_are_one_picture() -> None:
    large = Image.fromarray(PICTURE).resize((1300, 900))
    data = encode("HEIF", large, tile_size=512)
    assert b"grid" in data
    header = read_header(data)
    assert (header.width, header.height, header.warnings) == (1300, 900, ())
    expected = np.array(large.resize((578, 400), Image.Resampling.BOX))
    assert difference(load(data, 2)[1], expected) < 4


def test_ten_bits_are_reduced_to_eight() -> None:
    file = io.BytesIO()
    deep = PICTURE.astype(np.uint16) * 257
    pillow_heif.from_bytes("RGB;16", (WIDTH, HEIGHT), deep.tobytes()).save(file)
    warns, pixels = load(file.getvalue())
    assert warns == (Warn.REDUCED_TO_8_BIT,)
    assert difference(pixels, PICTURE) < 3


@both
def test_colours_are_converted_by_the_profile(form: str) -> None:
    profile = rgb_profile(DISPLAY_P3, SRGB_CURVE)
    assert profile
    warns, pixels = load(encode(form, icc_profile=profile))
    assert warns == (Warn.COLOUR_CONVERTED,)
    expected = load(encode("PNG", icc_profile=profile))
    assert expected[0] == warns
    assert difference(pixels, expected[1]) < 4
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert load(encode(form, icc_profile=plain))[0] == ()


def change_colours(data: bytes, primaries: int, transfer: int) -> bytes:
    """A file whose nclx box has other numbers (ITU-T H.273)."""
    place = data.index(b"colrnclx") + 8
    return data[:place] + bytes([0, primaries, 0, transfer]) + data[place + 4 :]


@both
def test_colours_are_converted_by_numbers(form: str) -> None:
    warns, pixels = load(change_colours(SIMPLE[form], 12, 13))
    assert warns == (Warn.COLOUR_CONVERTED,)
    by_profile = load(encode("PNG", icc_profile=rgb_profile(DISPLAY_P3, SRGB_CURVE)))[1]
    assert difference(pixels, by_profile) < 4


@both
@pytest.mark.parametrize("transfer", [16, 18])
def test_a_high_dynamic_range_is_unsupported(form: str, transfer: int) -> None:
    data = change_colours(SIMPLE[form], 9, transfer)
    assert reject_reason(data) == (RejectReason.UNSUPPORTED, form)


@both
def test_the_size_is_checked_before_decoding(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "decode_heif", None)  # would be an error
    data = encode(form, Image.new("RGB", (400, 300)))
    assert reject_reason(data, 0.1) == (RejectReason.TOO_MANY_PIXELS, form)


@both
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_never_read(form: str, share: float) -> None:
    data = SIMPLE[form]
    reason, _ = reject_reason(data[: int(share * len(data))])
    expected = {RejectReason.EMPTY, RejectReason.NOT_AN_IMAGE, RejectReason.DAMAGED}
    assert reason in expected


@both
@given(
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6)
)
def test_hostile_bytes_are_read_or_refused(form: str, changes: list[tuple[float, int]]) -> None:
    data = bytearray(SIMPLE[form])
    for share, value in changes:
        data[int(share * len(data))] = value
    with suppress(Unreadable):
        decoding.load(bytes(data), 1, 400)


@given(st.binary(max_size=200))
def test_any_bytes_can_follow_the_first_box(rest: bytes) -> None:
    start = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    with pytest.raises(Unreadable):
        read_header(start + rest)
    assert heif.read_picture(start + rest) is None


def test_a_film_without_a_picture_is_unsupported() -> None:
    film = b"\0\0\0\x18ftyphevc\0\0\0\0msf1hevc" + b"\0\0\0\x08moov"
    assert reject_reason(film) == (RejectReason.UNSUPPORTED, "HEIF")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.replace(b"hvc1", b"vvc1"), RejectReason.UNSUPPORTED),
        (lambda data: data.replace(b"ispe", b"free"), RejectReason.DAMAGED),
        (lambda data: data.replace(b"pitm", b"free"), RejectReason.DAMAGED),
    ],
    ids=["another codec", "no size", "no main picture"],
)
def test_what_the_boxes_lack_decides(
    change: Callable[[bytes], bytes], reason: RejectReason
) -> None:
    assert reject_reason(change(SIMPLE["HEIF"])) == (reason, "HEIF")
