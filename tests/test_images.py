import io
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline import images
from pipeline.header import Reason, Unreadable, Warn, has_wrong_extension, read_header
from pipeline.images import Judgement, Pixels
from pipeline.params import Filter

LIMITS = Filter(
    min_side=32,
    max_megapixels=1,
    store_side=64,
    near_duplicate_bits=4,
    near_duplicates="keep",
    max_reject_fraction=0.2,
)
RED, BLUE, GREY, WHITE = (200, 30, 30), (20, 40, 200), (230, 230, 230), (255, 255, 255)
ORIENTATION = 0x0112


def corners(height: int = 48, width: int = 64) -> Pixels:
    """Red at the top left, blue at the bottom left, grey on the right."""
    picture = np.full((height, width, 3), GREY, np.uint8)
    picture[: height // 2, : width // 2] = RED
    picture[height // 2 :, : width // 2] = BLUE
    return picture


def saved(picture: Pixels | Image.Image, form: str, **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def transparent() -> Image.Image:
    """`corners`, with an invisible strip of 8 pixels on the left."""
    alpha = np.full((48, 64), 255, np.uint8)
    alpha[:, :8] = 0
    return Image.fromarray(np.dstack([corners(), alpha]))


def promise(width: int, height: int) -> bytes:
    """A sound PNG header without a pixel behind it."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def judge(data: bytes) -> Judgement:
    return images.judge(data, LIMITS)


def stored(data: bytes) -> bytes:
    """What the filter would store of it."""
    judged = judge(data)
    assert judged.reason is None
    return data if judged.stored is None else judged.stored


def four(pixels: Pixels) -> list[tuple[int, ...]]:
    """Colours near the corners: top left, top right, bottom left, bottom right."""
    height, width = pixels.shape[:2]
    places = ((0.2, 0.2), (0.2, 0.8), (0.8, 0.2), (0.8, 0.8))
    return [tuple(pixels[int(y * height), int(x * width)].tolist()) for y, x in places]


def assert_colours(pixels: Pixels, *expected: tuple[int, ...]) -> None:
    assert np.abs(np.subtract(four(pixels), expected)).max() <= 4, four(pixels)


# ---- reasons to reject ----


@pytest.mark.parametrize(
    ("data", "reason", "form"),
    [
        (b"", Reason.EMPTY, ""),
        (b"<html>404</html>", Reason.NOT_AN_IMAGE, ""),
        (b"\xff\xd8\xff", Reason.NOT_AN_IMAGE, ""),
        (b"%PDF-1.4", Reason.NOT_AN_IMAGE, ""),
        (saved(corners(), "PPM"), Reason.NOT_AN_IMAGE, ""),
        (saved(corners(), "ICO"), Reason.NOT_AN_IMAGE, ""),
        (promise(1001, 1000), Reason.TOO_MANY_PIXELS, "PNG"),
        (promise(1000, 1000), Reason.DAMAGED, "PNG"),
        (saved(corners(31, 200), "PNG"), Reason.TOO_SMALL, "PNG"),
        (saved(corners(200, 31), "JPEG"), Reason.TOO_SMALL, "JPEG"),
        (saved(np.full((48, 64, 3), 7, np.uint8), "PNG"), Reason.BLANK, "PNG"),
        (saved(np.full((48, 64, 3), 7, np.uint8), "JPEG"), Reason.BLANK, "JPEG"),
    ],
)  # fmt: skip
def test_a_bad_image_is_rejected_by_reason(data: bytes, reason: Reason, form: str) -> None:
    judged = judge(data)
    assert (judged.reason, judged.format, judged.stored) == (reason, form, None)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_an_image_that_is_cut_short_is_rejected(form: str, kept: float) -> None:
    data = saved(noise(), form)
    assert judge(data[: int(len(data) * kept)]).reason in {Reason.DAMAGED, Reason.NOT_AN_IMAGE}


def noise() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_a_hole_in_a_jpeg_is_damage() -> None:
    data = saved(noise(), "JPEG")
    half = len(data) // 2
    assert judge(data[:half] + bytes(200) + data[half + 200 :]).reason is Reason.DAMAGED


def test_a_flipped_bit_in_a_png_is_damage() -> None:
    data = bytearray(saved(noise(), "PNG"))
    data[len(data) // 2] ^= 1
    assert judge(bytes(data)).reason is Reason.DAMAGED


def test_a_side_of_the_least_length_is_enough() -> None:
    assert judge(saved(corners(32, 32), "PNG")).reason is None


@pytest.mark.parametrize(
    "data",
    [
        promise(60_000, 60_000),
        promise(2**31 - 1, 1),
        saved(corners(), "BMP").replace(
            struct.pack("<ii", 64, 48), struct.pack("<ii", 50_000, 50_000)
        ),
        saved(corners(), "GIF").replace(struct.pack("<HH", 64, 48), b"\xff\xff\xff\xff"),
        saved(corners(), "JPEG").replace(struct.pack(">HH", 48, 64), b"\xff\xdc\xff\xdc"),
    ],
    ids=["png", "wide png", "bmp", "gif", "jpeg"],
)
def test_a_vast_image_is_never_decoded(data: bytes) -> None:
    start = time.perf_counter()
    assert judge(data).reason is Reason.TOO_MANY_PIXELS
    assert time.perf_counter() - start < 0.5  # decoding would take gigabytes, and seconds


# ---- warnings ----


WARNED = {
    Warn.ROTATED: saved(corners(), "JPEG", exif=turned(3)),
    Warn.TRANSPARENCY_FLATTENED: saved(transparent(), "PNG"),
    Warn.FIRST_FRAME_ONLY: saved(
        corners(), "GIF", save_all=True, append_images=[Image.fromarray(corners()[::-1])]
    ),
    Warn.CMYK_CONVERTED: saved(Image.fromarray(corners()).convert("CMYK"), "JPEG"),
    Warn.REDUCED_TO_8_BIT: cv2.imencode(".png", corners().astype(np.uint16) * 257)[1].tobytes(),
}


@pytest.mark.parametrize("warning", sorted(set(Warn) - {Warn.WRONG_EXTENSION}))
def test_what_is_noticed_is_kept_and_told_and_encoded_anew(warning: Warn) -> None:
    judged = judge(WARNED[warning])
    assert (judged.reason, judged.warnings) == (None, (warning,))
    assert judged.stored is not None


@pytest.mark.parametrize("warning", sorted(set(Warn) - {Warn.WRONG_EXTENSION}))
def test_what_is_stored_is_plain(warning: Warn) -> None:
    header = read_header(stored(WARNED[warning]))
    assert (header.plain, header.warnings) == (True, ())


def test_sixteen_bits_are_noticed_in_a_tiff_too() -> None:
    data = cv2.imencode(".tiff", noise().astype(np.uint16) * 257)[1].tobytes()
    assert judge(data).warnings == (Warn.REDUCED_TO_8_BIT,)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_frames_is_taken(form: str) -> None:
    other = Image.fromarray(255 - corners())
    data = saved(corners(), form, save_all=True, append_images=[other])
    assert judge(data).warnings == (Warn.FIRST_FRAME_ONLY,)
    assert_colours(images.decode(stored(data)), RED, GREY, BLUE, GREY)


UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: np.rot90(pixels, 2),
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels),
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_rotation_is_applied_to_the_pixels(form: str, orientation: int) -> None:
    expected = UPRIGHT[orientation](corners())
    data = saved(corners(), form, exif=turned(orientation))
    judged = judge(data)
    assert (judged.height, judged.width) == expected.shape[:2]
    assert judged.warnings == ((Warn.ROTATED,) if orientation > 1 else ())
    pixels = images.decode(stored(data))
    assert pixels.shape == expected.shape
    assert_colours(pixels, *four(expected))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_exif_rotation_is_applied_where_there_is_transparency(form: str) -> None:
    data = saved(transparent(), form, exif=turned(6))
    judged = judge(data)
    assert judged.warnings == (Warn.ROTATED, Warn.TRANSPARENCY_FLATTENED)
    assert (judged.height, judged.width) == (64, 48)
    assert_colours(images.decode(stored(data)), BLUE, RED, GREY, GREY)


def test_what_browsers_do_not_rotate_is_not_called_rotated() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert judge(saved(corners(), "JPEG", xmp=xmp)).warnings == ()


@pytest.mark.parametrize(
    "data",
    [
        saved(transparent(), "PNG"),
        saved(transparent(), "WEBP", lossless=True),
        saved(transparent(), "TIFF"),
        saved(transparent(), "GIF"),
        saved(transparent().convert("LA"), "PNG"),
        cv2.imencode(".png", np.asarray(transparent())[:, :, [2, 1, 0, 3]].astype(np.uint16) * 257)[
            1
        ].tobytes(),
    ],
    ids=["png", "webp", "tiff", "gif", "grey png", "16-bit png"],
)
def test_transparency_becomes_white(data: bytes) -> None:
    assert Warn.TRANSPARENCY_FLATTENED in judge(data).warnings
    pixels = images.decode(stored(data))
    assert (pixels[:, :7] == WHITE).all()
    assert not (pixels[:, 9:] == WHITE).all(axis=2).any()


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_a_colour_that_is_declared_transparent_becomes_white(mode: str) -> None:
    image = Image.fromarray(corners()).convert("L").convert(mode)
    colour = image.getpixel((60, 2))
    pixels = images.decode(stored(saved(image, "PNG", transparency=colour)))
    assert (pixels[:, 33:] == WHITE).all()
    assert not (pixels[:, :31] == WHITE).all(axis=2).any()


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    picture = np.zeros((40, 40, 4), np.uint8)
    picture[:20, :, 3] = 51  # a fifth of black on white
    picture[20:, :, 3] = 255
    pixels = images.decode(stored(saved(Image.fromarray(picture), "PNG")))
    assert (pixels[:20] == 204).all()
    assert (pixels[20:] == 0).all()


# ---- what is stored ----


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 50}, {"comment": b"c"}])
def test_a_plain_small_jpeg_keeps_its_bytes(options: dict[str, Any]) -> None:
    judged = judge(saved(corners(64, 200), "JPEG", **options))
    assert (judged.reason, judged.stored, judged.width, judged.height) == (None, None, 200, 64)


def test_a_plain_small_png_keeps_its_bytes() -> None:
    assert judge(saved(corners(), "PNG")).stored is None


@pytest.mark.parametrize(
    ("picture", "form", "signature"),
    [
        (Image.fromarray(corners()).convert("L"), "JPEG", b"\xff\xd8"),
        (Image.fromarray(corners()).convert("L"), "PNG", b"\x89PNG"),
        (Image.fromarray(corners()).convert("P"), "PNG", b"\x89PNG"),
        (Image.fromarray(noise()).convert("1"), "PNG", b"\x89PNG"),
        (Image.fromarray(corners()), "BMP", b"\x89PNG"),
        (Image.fromarray(corners()), "GIF", b"\x89PNG"),
        (Image.fromarray(corners()), "TIFF", b"\x89PNG"),
        (Image.fromarray(corners()), "WEBP", b"\xff\xd8"),
        (Image.fromarray(corners()), "MPO", b"\xff\xd8"),
    ],
)
def test_another_encoding_becomes_rgb_and_stays_lossless_where_it_was(
    picture: Image.Image, form: str, signature: bytes
) -> None:
    options = {"save_all": True, "append_images": [picture]} if form == "MPO" else {}
    data = saved(picture, form, **options)
    judged = judge(data)
    assert (judged.reason, judged.format, judged.warnings) == (None, form, ())
    assert judged.stored is not None
    assert judged.stored.startswith(signature)
    assert read_header(judged.stored).plain
    if signature == b"\x89PNG":
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert (images.decode(judged.stored) == expected).all()


def test_a_lossless_webp_stays_lossless() -> None:
    data = stored(saved(noise(), "WEBP", lossless=True))
    assert data.startswith(b"\x89PNG")
    assert (images.decode(data) == noise()).all()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((64, 90), (64, 90)), ((65, 130), (64, 128)), ((300, 128), (150, 64)), ((128, 128), (64, 64))],
)
def test_the_shorter_side_is_stored_no_longer_than_asked(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    data = saved(corners(*shape), "PNG")
    judged = judge(data)
    assert (judged.height, judged.width) == expected
    assert images.decode(stored(data)).shape == (*expected, 3)


def test_scaling_down_keeps_an_extreme_shape_alive() -> None:
    _, pixels = images.load(saved(corners(32, 20_000), "PNG"), 1, 16)
    assert pixels.shape == (16, 10_000, 3)


def test_judging_what_is_stored_keeps_its_bytes() -> None:
    for data in (saved(corners(200, 300), "JPEG"), *WARNED.values()):
        assert judge(stored(data)).stored is None


def test_a_jpeg_with_broken_exif_is_stored_without_it() -> None:
    data = saved(corners(), "JPEG", exif=turned(1))
    start = data.index(b"Exif\0\0") + 6
    broken = data[:start] + data[start : start + 8] + b"\xff\xff" + data[start + 10 :]
    read_header(stored(broken))  # a warning of Pillow's would be an error here


# ---- hostile bytes ----


SEEDS = {
    "jpeg": saved(noise(), "JPEG", exif=turned(6)),
    "png": saved(noise(), "PNG", exif=turned(6)),
    "transparent": saved(transparent(), "PNG"),
    "gif": saved(corners(), "GIF"),
    "bmp": saved(corners(), "BMP"),
    "webp": saved(corners(), "WEBP"),
    "tiff": saved(corners(), "TIFF"),
}
HOSTILE = settings(deadline=None, derandomize=True, max_examples=150)


def survive(data: bytes) -> None:
    """Whatever the bytes, there are pixels of the promised size, or Unreadable."""
    try:
        header, pixels = images.load(data, 0.1, 1000)
    except Unreadable:
        return
    assert sorted(pixels.shape[:2]) == sorted((header.height, header.width))
    assert pixels.dtype == np.uint8


@HOSTILE
@given(st.binary(max_size=200))
def test_random_bytes_are_unreadable_and_nothing_worse(data: bytes) -> None:
    survive(data)


@HOSTILE
@given(st.sampled_from(sorted(SEEDS)), st.binary(max_size=60))
def test_random_bytes_behind_a_signature_are_unreadable_and_nothing_worse(
    seed: str, data: bytes
) -> None:
    survive(SEEDS[seed][:12] + data)


@HOSTILE
@given(st.sampled_from(sorted(SEEDS)), st.floats(0, 1))
def test_a_truncated_image_is_unreadable_and_nothing_worse(seed: str, kept: float) -> None:
    survive(SEEDS[seed][: int(len(SEEDS[seed]) * kept)])


@HOSTILE
@given(
    st.sampled_from(sorted(SEEDS)), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)))
)
def test_changed_bytes_are_unreadable_and_nothing_worse(
    seed: str, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(SEEDS[seed])
    for place, value in changes:
        data[place % len(data)] = value
    survive(bytes(data))


def test_a_stored_image_that_does_not_decode_is_a_bug() -> None:
    with pytest.raises(ValueError, match="clean shards are damaged"):
        images.decode(b"\xff\xd8\xff")


# ---- names and hashes ----


@pytest.mark.parametrize(
    ("name", "form", "wrong"),
    [
        ("a/b.jpg", "JPEG", False),
        ("a/b.JPEG", "JPEG", False),
        ("a/b.jpg", "MPO", False),
        ("b.tif", "TIFF", False),
        ("a/b.png", "JPEG", True),
        ("a.png/b", "PNG", True),
        ("b", "JPEG", True),
        ("b.jpg", "WEBP", True),
    ],
)
def test_an_extension_is_held_against_the_content(name: str, form: str, wrong: bool) -> None:
    assert has_wrong_extension(name, form) is wrong


def scene(seed: int, height: int = 240, width: int = 320) -> Pixels:
    """Soft random shapes, as photographs have them."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth, np.uint8)


def distance(first: Pixels, second: Pixels) -> int:
    return (images.perceptual_hash(first) ^ images.perceptual_hash(second)).bit_count()


@pytest.mark.parametrize("seed", range(5))
def test_a_hash_survives_encoding_scaling_and_brightness(seed: int) -> None:
    picture = scene(seed)
    encoded = images.decode(saved(picture, "JPEG", quality=60))
    scaled = np.asarray(cv2.resize(picture, (200, 150), interpolation=cv2.INTER_AREA), np.uint8)
    darker = (picture * 0.9).astype(np.uint8)
    assert max(distance(picture, other) for other in (encoded, scaled, darker)) <= 4


def test_hashes_of_different_images_differ() -> None:
    pictures = [scene(seed) for seed in range(12)]
    distances = [distance(a, b) for n, a in enumerate(pictures) for b in pictures[:n]]
    assert min(distances) > 12


def test_a_hash_fits_in_64_bits_and_is_that_of_the_stored_pixels() -> None:
    judged = judge(saved(scene(1), "PNG"))
    assert judged.stored is not None
    assert judged.phash == images.perceptual_hash(images.decode(judged.stored))
    assert 0 < judged.phash < 2**64
