import io
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipeline.images import decoding
from pipeline.images.formats import gif
from pipeline.images.header import RejectReason, Unreadable, Warn, read_header
from pipeline.images.pixels import Pixels
from pipeline.images.repair import UNKNOWN_SUBSAMPLING
from pipeline.stages.filter import judgement
from pipeline.stages.filter.judgement import Judgement
from pipeline.stages.filter.phash import perceptual_hash
from tests.builders.image_files import adobe_profile, insert_chunk
from tests.builders.odd_images import (
    BLUE,
    GREY,
    RED,
    ROTATED_BY_90,
    SLOPPY,
    WHITE,
    assert_colours,
    corner_colours,
    corners,
    encode,
    exif_with_entry,
    insert_exif,
    orientation_exif,
)
from tests.builders.params import FILTER_PARAMS


def transparent() -> Image.Image:
    """`corners`, with an invisible strip of 8 pixels on the left."""
    alpha = np.full((48, 64), 255, np.uint8)
    alpha[:, :8] = 0
    return Image.fromarray(np.dstack([corners(), alpha]))


def header_only_png(width: int, height: int) -> bytes:
    """A valid PNG header without pixel data."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def judge(data: bytes) -> Judgement:
    return judgement.judge(data, FILTER_PARAMS)


def stored(data: bytes) -> bytes:
    """The bytes that the filter stores for an image."""
    judged = judge(data)
    assert judged.reason is None
    return data if judged.stored is None else judged.stored


@pytest.mark.parametrize(
    ("data", "reason", "form"),
    [
        (b"", RejectReason.EMPTY, ""),
        (b"<html>404</html>", RejectReason.NOT_AN_IMAGE, ""),
        (b"\xff\xd8\xff", RejectReason.DAMAGED, "JPEG"),
        (b"%PDF-1.4", RejectReason.NOT_AN_IMAGE, ""),
        (encode(corners(), "PPM"), RejectReason.UNSUPPORTED, "netpbm"),
        (
            cv2.imencode(".hdr", corners().astype(np.float32))[1].tobytes(),
            RejectReason.UNSUPPORTED,
            "Radiance HDR",
        ),
        (encode(Image.fromarray(corners()).convert("F"), "TIFF"), RejectReason.UNSUPPORTED, "TIFF"),
        (encode(Image.fromarray(corners()).convert("I"), "TIFF"), RejectReason.UNSUPPORTED, "TIFF"),
        (encode(corners(), "BMP")[:20], RejectReason.DAMAGED, "BMP"),
        (encode(corners(), "TIFF", big_tiff=True)[:12], RejectReason.DAMAGED, "TIFF"),
        (encode(corners(), "ICO"), RejectReason.UNSUPPORTED, "icon"),
        (header_only_png(1001, 1000), RejectReason.TOO_MANY_PIXELS, "PNG"),
        (header_only_png(1000, 1000), RejectReason.DAMAGED, "PNG"),
        (encode(corners(31, 200), "PNG"), RejectReason.TOO_SMALL, "PNG"),
        (encode(corners(200, 31), "JPEG"), RejectReason.TOO_SMALL, "JPEG"),
        (encode(np.full((48, 64, 3), 7, np.uint8), "PNG"), RejectReason.BLANK, "PNG"),
        (encode(np.full((48, 64, 3), 7, np.uint8), "JPEG"), RejectReason.BLANK, "JPEG"),
    ],
)
def test_a_bad_image_is_rejected_by_reason(data: bytes, reason: RejectReason, form: str) -> None:
    judged = judge(data)
    assert (judged.reason, judged.format, judged.stored) == (reason, form, None)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("fraction", [0.5, 0.95])
def test_a_truncated_image_is_rejected(form: str, fraction: float) -> None:
    data = encode(noise(), form)
    assert judge(data[: int(len(data) * fraction)]).reason in {
        RejectReason.DAMAGED,
        RejectReason.NOT_AN_IMAGE,
    }


def noise() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_a_hole_in_a_jpeg_is_damage() -> None:
    data = encode(noise(), "JPEG")
    half = len(data) // 2
    assert judge(data[:half] + bytes(200) + data[half + 200 :]).reason is RejectReason.DAMAGED


def test_a_flipped_bit_in_a_png_is_damage() -> None:
    data = bytearray(encode(noise(), "PNG"))
    data[len(data) // 2] ^= 1
    assert judge(bytes(data)).reason is RejectReason.DAMAGED


def test_a_side_of_min_side_is_accepted() -> None:
    assert judge(encode(corners(32, 32), "PNG")).reason is None


@pytest.mark.parametrize(
    "data",
    [
        header_only_png(60_000, 60_000),
        header_only_png(2**31 - 1, 1),
        encode(corners(), "BMP").replace(
            struct.pack("<ii", 64, 48), struct.pack("<ii", 50_000, 50_000)
        ),
        encode(corners(), "GIF").replace(struct.pack("<HH", 64, 48), b"\xff\xff\xff\xff"),
        encode(corners(), "JPEG").replace(struct.pack(">HH", 48, 64), b"\xff\xdc\xff\xdc"),
    ],
    ids=["png", "wide png", "bmp", "gif", "jpeg"],
)
def test_a_vast_image_is_never_decoded(data: bytes) -> None:
    start = time.perf_counter()
    assert judge(data).reason is RejectReason.TOO_MANY_PIXELS
    assert time.perf_counter() - start < 0.5  # decoding would take gigabytes, and seconds


UNSCALED = cv2.imencode(".png", noise().astype(np.uint16) * 16 + 5)[1].tobytes()  # 12 bits
WARNED = {
    Warn.ROTATED: encode(corners(), "JPEG", exif=orientation_exif(3)),
    Warn.TRANSPARENCY_FLATTENED: encode(transparent(), "PNG"),
    Warn.FIRST_FRAME_ONLY: encode(
        corners(), "GIF", save_all=True, append_images=[Image.fromarray(corners()[::-1])]
    ),
    Warn.CMYK_CONVERTED: encode(Image.fromarray(corners()).convert("CMYK"), "JPEG"),
    Warn.REDUCED_TO_8_BIT: cv2.imencode(".png", corners().astype(np.uint16) * 257)[1].tobytes(),
    Warn.COLOUR_CONVERTED: encode(corners(), "JPEG", icc_profile=adobe_profile()),
    Warn.EXTRANEOUS_BYTES: encode(corners(), "JPEG")[:-2] + bytes(65) + b"\xff\xd9",
    Warn.WRONG_END: encode(corners(), "JPEG")[:-2],
    Warn.LOW_16_BIT: UNSCALED,
    Warn.SCALED_BY_BITS: insert_chunk(UNSCALED, b"sBIT", b"\x0c\x0c\x0c"),
}
WITH_ANOTHER = {Warn.LOW_16_BIT, Warn.SCALED_BY_BITS}


@pytest.mark.parametrize("warning", sorted(set(Warn) - {Warn.WRONG_EXTENSION}))
def test_an_image_with_a_warning_is_accepted_and_encoded_again(warning: Warn) -> None:
    judged = judge(WARNED[warning])
    others = (Warn.REDUCED_TO_8_BIT,) if warning in WITH_ANOTHER else ()
    assert (judged.reason, judged.warnings) == (None, (*others, warning))
    assert judged.stored is not None


@pytest.mark.parametrize("warning", sorted(set(Warn) - {Warn.WRONG_EXTENSION}))
def test_a_stored_image_is_plain(warning: Warn) -> None:
    header = read_header(stored(WARNED[warning]))
    assert (header.plain, header.warnings) == (True, ())


def test_sixteen_bits_in_a_tiff_are_a_warning() -> None:
    data = cv2.imencode(".tiff", noise().astype(np.uint16) * 257)[1].tobytes()
    assert judge(data).warnings == (Warn.REDUCED_TO_8_BIT,)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_of_several_frames_is_taken(form: str) -> None:
    other = Image.fromarray(255 - corners())
    data = encode(corners(), form, save_all=True, append_images=[other])
    assert judge(data).warnings == (Warn.FIRST_FRAME_ONLY,)
    assert_colours(decoding.decode(stored(data)), RED, GREY, BLUE, GREY)


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
    data = encode(corners(), form, exif=orientation_exif(orientation))
    judged = judge(data)
    assert (judged.height, judged.width) == expected.shape[:2]
    assert judged.warnings == ((Warn.ROTATED,) if orientation > 1 else ())
    pixels = decoding.decode(stored(data))
    assert pixels.shape == expected.shape
    assert_colours(pixels, *corner_colours(expected))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_exif_rotation_is_applied_to_transparent_images(form: str) -> None:
    data = encode(transparent(), form, exif=orientation_exif(6))
    judged = judge(data)
    assert judged.warnings == (Warn.ROTATED, Warn.TRANSPARENCY_FLATTENED)
    assert (judged.height, judged.width) == (64, 48)
    assert_colours(decoding.decode(stored(data)), BLUE, RED, GREY, GREY)


@pytest.mark.parametrize(
    "data",
    [
        encode(transparent(), "PNG"),
        encode(transparent(), "WEBP", lossless=True),
        encode(transparent(), "TIFF"),
        encode(transparent(), "GIF"),
        encode(transparent().convert("LA"), "PNG"),
        cv2.imencode(".png", np.asarray(transparent())[:, :, [2, 1, 0, 3]].astype(np.uint16) * 257)[
            1
        ].tobytes(),
    ],
    ids=["png", "webp", "tiff", "gif", "grey png", "16-bit png"],
)
def test_transparency_becomes_white(data: bytes) -> None:
    assert Warn.TRANSPARENCY_FLATTENED in judge(data).warnings
    pixels = decoding.decode(stored(data))
    assert (pixels[:, :7] == WHITE).all()
    assert not (pixels[:, 9:] == WHITE).all(axis=2).any()


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_a_colour_that_is_declared_transparent_becomes_white(mode: str) -> None:
    image = Image.fromarray(corners()).convert("L").convert(mode)
    colour = image.getpixel((60, 2))
    pixels = decoding.decode(stored(encode(image, "PNG", transparency=colour)))
    assert (pixels[:, 33:] == WHITE).all()
    assert not (pixels[:, :31] == WHITE).all(axis=2).any()


def test_16_bit_grey_with_a_transparent_value_keeps_its_tones() -> None:
    """Pillow alone would turn all but the darkest 256 of 65536 values white."""
    values = np.random.default_rng(0).integers(0, 65_000, (48, 64), dtype=np.uint16)
    values[:, :16] = 65_001
    opaque = cv2.imencode(".png", values)[1].tobytes()
    offset = opaque.index(b"IDAT") - 4
    chunk = b"tRNS" + struct.pack(">H", 65_001)
    trns_chunk = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = opaque[:offset] + trns_chunk + opaque[offset:]
    assert judge(data).warnings == (Warn.TRANSPARENCY_FLATTENED, Warn.REDUCED_TO_8_BIT)
    pixels = decoding.decode(stored(data))
    assert (pixels[:, :16] == WHITE).all()
    assert (pixels[:, 16:] == (values >> 8)[:, 16:, None]).all()
    assert pixels[:, 16:].mean() == pytest.approx(65_000 / 2 / 256, abs=3)
    assert np.abs(pixels[:, 16:].astype(int) - decoding.decode(stored(opaque))[:, 16:]).max() <= 1


@pytest.mark.parametrize("height", [32, 255, 256, 257, 600])
def test_every_strip_of_a_transparent_image_is_blended_with_white(height: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, 40, 4), dtype=np.uint8)
    limits = FILTER_PARAMS.model_copy(update={"store_side": 700})
    stored_bytes = judgement.judge(encode(Image.fromarray(picture), "PNG"), limits).stored
    assert stored_bytes is not None
    colour, alpha = picture[:, :, :3].astype(float), picture[:, :, 3:] / 255
    exact = colour * alpha + 255 * (1 - alpha)
    assert np.abs(decoding.decode(stored_bytes) - exact).max() <= 0.51


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    picture = np.zeros((40, 40, 4), np.uint8)
    picture[:20, :, 3] = 51  # a fifth of black on white
    picture[20:, :, 3] = 255
    pixels = decoding.decode(stored(encode(Image.fromarray(picture), "PNG")))
    assert (pixels[:20] == 204).all()
    assert (pixels[20:] == 0).all()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 50}, {"comment": b"c"}])
def test_a_plain_small_jpeg_keeps_its_bytes(options: dict[str, Any]) -> None:
    judged = judge(encode(corners(64, 200), "JPEG", **options))
    assert (judged.reason, judged.stored, judged.width, judged.height) == (None, None, 200, 64)


def test_a_plain_small_png_keeps_its_bytes() -> None:
    assert judge(encode(corners(), "PNG")).stored is None


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
def test_another_encoding_becomes_rgb_and_stays_lossless(
    picture: Image.Image, form: str, signature: bytes
) -> None:
    is_mpo = form == "MPO"  # with a single frame it would be a JPEG
    options = {"save_all": True, "append_images": [picture.copy()]} if is_mpo else {}
    data = encode(picture, form, **options)
    judged = judge(data)
    expected_warnings = (Warn.FIRST_FRAME_ONLY,) if is_mpo else ()
    assert (judged.reason, judged.format, judged.warnings) == (None, form, expected_warnings)
    assert judged.stored is not None
    assert judged.stored.startswith(signature)
    assert read_header(judged.stored).plain
    if signature == b"\x89PNG":
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert (decoding.decode(judged.stored) == expected).all()


def test_a_lossless_webp_stays_lossless() -> None:
    data = stored(encode(noise(), "WEBP", lossless=True))
    assert data.startswith(b"\x89PNG")
    assert (decoding.decode(data) == noise()).all()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((64, 90), (64, 90)), ((65, 130), (64, 128)), ((300, 128), (150, 64)), ((128, 128), (64, 64))],
)
def test_the_shorter_side_is_stored_with_at_most_store_side(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    data = encode(corners(*shape), "PNG")
    judged = judge(data)
    assert (judged.height, judged.width) == expected
    assert decoding.decode(stored(data)).shape == (*expected, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64, 256), (64, 256)),  # four squares of 64
        ((64, 257), (64, 256)),
        ((40, 409), (40, 409)),
        ((40, 1600), (20, 810)),
        ((1600, 40), (810, 20)),
        ((256, 1024), (64, 256)),
        ((32, 20_000), (5, 3200)),
    ],
)
def test_a_long_strip_is_stored_with_the_area_of_four_squares(
    form: str, shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    data = encode(corners(*shape), form)
    judged = judge(data)
    assert (judged.reason, judged.height, judged.width) == (None, *expected)
    assert (judged.stored is None) is (shape == expected)
    assert decoding.decode(stored(data)).shape == (*expected, 3)


def test_judging_a_stored_image_keeps_its_bytes() -> None:
    for data in (encode(corners(200, 300), "JPEG"), *WARNED.values()):
        assert judge(stored(data)).stored is None


def test_a_jpeg_with_broken_exif_is_stored_without_it() -> None:
    data = encode(corners(), "JPEG", exif=orientation_exif(1))
    start = data.index(b"Exif\0\0") + 6
    broken = data[:start] + data[start : start + 8] + b"\xff\xff" + data[start + 10 :]
    read_header(stored(broken))  # a warning of Pillow's would be an error here


def test_the_hash_is_of_the_stored_pixels() -> None:
    judged = judge(encode(corners(200, 300), "PNG"))
    assert judged.stored is not None
    grey = cv2.cvtColor(decoding.decode(judged.stored), cv2.COLOR_RGB2GRAY)
    assert judged.phash == perceptual_hash(np.asarray(grey, np.uint8))


@pytest.fixture
def decoder_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The decoders that are called, in order."""
    calls: list[str] = []
    strict, lenient = simplejpeg.decode_jpeg, cv2.imdecode

    def by_simplejpeg(*arguments: Any, **options: Any) -> Any:
        assert options["strict"]
        pixels = strict(*arguments, **options)
        calls.append(f"simplejpeg {min(pixels.shape[:2])}")
        return pixels

    def by_opencv(*arguments: Any) -> Any:
        calls.append("opencv")
        return lenient(*arguments)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", by_simplejpeg)
    monkeypatch.setattr(cv2, "imdecode", by_opencv)
    return calls


LARGE = FILTER_PARAMS.model_copy(update={"store_side": 600})


@pytest.mark.parametrize(
    ("side", "reduced"), [(40, 40), (64, 64), (100, 75), (128, 64), (256, 64), (512, 64), (600, 75)]
)
def test_a_jpeg_that_is_stored_as_is_is_decoded_once_strictly_and_reduced(
    decoder_calls: list[str], side: int, reduced: int
) -> None:
    judged = judgement.judge(encode(corners(side, side + 8), "JPEG"), LARGE)
    assert (judged.reason, judged.stored, judged.height) == (None, None, side)
    assert decoder_calls == [f"simplejpeg {reduced}"]


def test_a_jpeg_that_is_encoded_again_is_decoded_strictly_and_by_opencv(
    decoder_calls: list[str],
) -> None:
    assert judge(encode(corners(200, 300), "JPEG")).stored is not None
    assert [call.split()[0] for call in decoder_calls] == ["simplejpeg", "opencv"]


@pytest.mark.parametrize("length", [1, 20, 200])
@pytest.mark.parametrize("side", [48, 500])
def test_a_jpeg_that_is_stored_as_is_is_checked_to_its_end(length: int, side: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    data = encode(picture, "JPEG")
    assert judgement.judge(data, LARGE).reason is None
    assert judgement.judge(data[: -2 - length], LARGE).reason is RejectReason.DAMAGED
    assert judgement.judge(data[: -2 - length] + b"\xff\xd9", LARGE).reason is RejectReason.DAMAGED


def test_a_jpeg_with_trailing_bytes_is_accepted() -> None:
    for more in (b"junk" * 10, encode(noise(), "JPEG")):
        data = encode(corners(), "JPEG") + more
        assert (judge(data).reason, judge(data).stored, judge(data).width) == (None, None, 64)
        assert decoding.decode(data).shape == (48, 64, 3)


def fine_columns(height: int, width: int) -> Pixels:
    """Columns of two equally bright colours; at reduced scale they merge."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, ::2], picture[:, 1::2] = (255, 0, 0), (0, 130, 0)
    return picture


def test_a_fine_pattern_is_not_blank() -> None:
    checks = np.indices((256, 256)).sum(axis=0) % 2 * 255
    for picture in (
        fine_columns(256, 256),
        np.repeat(checks[:, :, None], 3, axis=2).astype(np.uint8),
    ):
        data = encode(picture, "JPEG", subsampling=0, quality=100)
        assert judgement.judge(data, LARGE).reason is None


@pytest.mark.parametrize("side", [32, 100, 512])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 30), (7, 8, 9)])
def test_one_colour_is_blank_at_any_size(side: int, colour: tuple[int, ...]) -> None:
    flat = np.full((side, side, 3), colour, np.uint8)
    for form in ("JPEG", "PNG"):
        assert judgement.judge(encode(flat, form), LARGE).reason is RejectReason.BLANK


def jpeg_with_sampling(*factors: int, mcus: int = 4) -> bytes:
    """A JPEG of `mcus` by `mcus` blocks of random colours with these sampling factors (0xHV).

    It is built by hand: encoders do not write most samplings that the format allows.
    """
    random = np.random.default_rng(0)
    side_x, side_y = (8 * mcus * max(factor >> s & 15 for factor in factors) for s in (4, 0))
    frame = b"".join(bytes([n, factor, 0]) for n, factor in enumerate(factors, 1))
    scan = b"".join(bytes([n, 0]) for n in range(1, len(factors) + 1))
    bits, before = "", [0] * len(factors)
    for _ in range(mcus * mcus):
        for component, factor in enumerate(factors):
            for _ in range((factor >> 4) * (factor & 15)):
                value = int(random.integers(-90, 90))
                change, before[component] = value - before[component], value
                size = abs(change).bit_length()
                coded_change = change if change > 0 else change + (1 << size) - 1
                bits += f"{size:04b}" + (f"{coded_change:0{size}b}" if size else "") + "0"
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    segments = {
        b"\xdb": b"\0" + bytes([8] + [1] * 63),
        b"\xc0": struct.pack(">BHHB", 8, side_y, side_x, len(factors)) + frame,
        b"\xc4": b"\0"
        + bytes([0, 0, 0, 12] + [0] * 12)
        + bytes(range(12))  # DC: 4 bits each
        + b"\x10"
        + bytes([1] + [0] * 15)
        + b"\0",  # AC: the end of the block, in 1 bit
        b"\xda": bytes([len(factors)]) + scan + b"\0\x3f\0",
    }
    encoded_segments = (
        b"\xff" + kind + struct.pack(">H", len(body) + 2) + body for kind, body in segments.items()
    )
    return b"\xff\xd8" + b"".join(encoded_segments) + coded + b"\xff\xd9"


ODD = [(0x42, 0x11, 0x11), (0x31, 0x11, 0x11), (0x22, 0x21, 0x11), (0x13, 0x11, 0x11)]


@pytest.mark.parametrize("factors", ODD)
def test_chroma_subsampling_that_simplejpeg_does_not_support_is_no_damage(
    factors: tuple[int, ...],
) -> None:
    data = jpeg_with_sampling(*factors)
    with pytest.raises(ValueError, match=UNKNOWN_SUBSAMPLING):
        simplejpeg.decode_jpeg(data, strict=True)
    for limits in (FILTER_PARAMS, FILTER_PARAMS.model_copy(update={"store_side": 32})):
        judged = judgement.judge(data, limits)
        assert (judged.reason, judged.format, judged.warnings) == (None, "JPEG", ())
        stored_data = data if judged.stored is None else judged.stored
        assert decoding.decode(stored_data).shape == (judged.height, judged.width, 3)
    assert_judged(data)


@pytest.mark.parametrize("factors", [*ODD, (0x22, 0x11, 0x11), (0x11, 0x11, 0x11)])
def test_damage_is_detected_at_any_subsampling(factors: tuple[int, ...]) -> None:
    data = jpeg_with_sampling(*factors)
    assert judge(data).reason is None
    for broken in (data[: len(data) * 2 // 3], data[:-20]):
        assert judge(broken).reason is RejectReason.DAMAGED


BROKEN_EXIF = {
    "junk": b"junk",
    "nothing": b"",
    "cut": b"MM\0*",
    "far": b"II*\0\xff\xff\xff\xff",
    "many": b"MM\0*\0\0\0\x08\xff\xff\x01\x12\0\3",
}


@pytest.mark.parametrize("exif", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
@pytest.mark.parametrize(
    "data",
    [
        encode(corners(), "JPEG"),
        encode(corners(200, 300), "JPEG"),
        encode(corners(), "PNG"),
        pytest.param(encode(transparent(), "PNG")),
        pytest.param(jpeg_with_sampling(*ODD[0])),
    ],
    ids=["jpeg", "large jpeg", "png", "transparent png", "odd jpeg"],
)
def test_broken_exif_is_no_reason_to_reject(data: bytes, exif: bytes) -> None:
    assert judge(insert_exif(data, exif)).reason is None
    assert_judged(insert_exif(data, exif))


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_an_image_rotated_by_exif_is_stored_upright(form: str) -> None:
    data = insert_exif(encode(corners(), form), exif_with_entry(ROTATED_BY_90))
    assert read_header(data).orientation == 6
    judged = judge(data)
    assert (judged.height, judged.width, judged.warnings) == (64, 48, (Warn.ROTATED,))
    assert judged.stored is not None
    assert_colours(decoding.decode(judged.stored), BLUE, RED, GREY, GREY)
    assert_judged(data)


@pytest.mark.parametrize("side", [48, 200])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("exif", SLOPPY.values(), ids=SLOPPY)
def test_sloppy_exif_that_the_header_ignores_rotates_nothing(
    form: str, exif: bytes, side: int
) -> None:
    data = insert_exif(encode(corners(side, 2 * side), form), exif)
    assert read_header(data).orientation == 1
    judged = judge(data)
    stored_side = min(side, FILTER_PARAMS.store_side)
    assert (judged.reason, judged.warnings) == (None, ())
    assert (judged.height, judged.width) == (stored_side, 2 * stored_side)
    pixels = decoding.decode(stored(data))
    assert pixels.shape == (stored_side, 2 * stored_side, 3)
    assert_colours(pixels, RED, GREY, BLUE, GREY)
    assert_judged(data)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_jpegs_that_pillow_decodes_are_rotated_too(orientation: int) -> None:
    data = insert_exif(
        jpeg_with_sampling(*ODD[0]),
        orientation_exif(orientation).tobytes().removeprefix(b"Exif\0\0"),
    )
    header = read_header(data)
    assert header.orientation == orientation
    whole = np.asarray(Image.open(io.BytesIO(data)))
    pixels = decoding.load(data, 1, 400)[1]
    expected = UPRIGHT[orientation](whole)
    assert (pixels == expected).all()
    assert (judge(data).height, judge(data).width) == expected.shape[:2]


@pytest.mark.parametrize("mebibytes", [2, 7])
@pytest.mark.parametrize("picture", [Image.fromarray(corners()), transparent()])
def test_a_png_with_a_large_colour_profile_or_text_is_accepted(
    picture: Image.Image, mebibytes: int
) -> None:
    blob = np.random.default_rng(0).bytes(mebibytes * 2**20)
    info = PngInfo()
    info.add_itxt("Comment", "x" * len(blob), zip=True)
    for options in ({"icc_profile": blob}, {"pnginfo": info}):
        data = encode(picture, "PNG", **options)
        assert judge(data).reason is None
        assert_judged(data)


SEEDS = {
    "jpeg": encode(noise(), "JPEG", exif=orientation_exif(6)),
    "png": encode(noise(), "PNG", exif=orientation_exif(6)),
    "transparent": encode(transparent(), "PNG"),
    "gif": encode(corners(), "GIF"),
    "bmp": encode(corners(), "BMP"),
    "webp": encode(corners(), "WEBP"),
    "tiff": encode(corners(), "TIFF"),
    "plain jpeg": encode(corners(), "JPEG"),
    "progressive jpeg": encode(noise(), "JPEG", progressive=True),
    "odd jpeg": encode(corners(), "JPEG", subsampling=0, restart_marker_blocks=2),
    "cmyk jpeg": encode(Image.fromarray(noise()).convert("CMYK"), "JPEG"),
    "palette png": encode(Image.fromarray(corners()).convert("P"), "PNG"),
    "lossless webp": encode(noise(), "WEBP", lossless=True),
    "compressed tiff": encode(noise(), "TIFF", compression="tiff_lzw"),
    "transparent tiff": encode(transparent(), "TIFF", exif=orientation_exif(6)),
    "frames": encode(corners(), "GIF", save_all=True, append_images=[transparent()]),
    "mpo": encode(corners(), "MPO", save_all=True, append_images=[Image.fromarray(noise())]),
}

HOSTILE = settings(derandomize=True, max_examples=150)


def assert_loads_or_is_unreadable(data: bytes) -> None:
    """Check that any bytes are judged, and load with the size in their header or are Unreadable."""
    assert_judged(data)
    try:
        header, pixels = decoding.load(data, 0.1, 1000)
    except Unreadable:
        return
    assert sorted(pixels.shape[:2]) == sorted((header.height, header.width))
    assert pixels.dtype == np.uint8


def assert_judged(data: bytes) -> None:
    """Check that an image is rejected for its bytes, or stored with the recorded size."""
    judged = judge(data)
    if judged.reason is not None:
        assert list(RejectReason).index(judged.reason) <= list(RejectReason).index(
            RejectReason.BLANK
        )
        assert judged.stored is None
        return
    stored_data = data if judged.stored is None else judged.stored
    assert decoding.decode(stored_data).shape == (judged.height, judged.width, 3)
    assert read_header(stored_data).plain
    assert judge(stored_data).stored is None
    assert 0 <= judged.phash < 2**64


@HOSTILE
@given(st.binary(max_size=200))
def test_random_bytes_are_at_worst_unreadable(data: bytes) -> None:
    assert_loads_or_is_unreadable(data)


@HOSTILE
@given(st.sampled_from(sorted(SEEDS)), st.binary(max_size=60))
def test_random_bytes_after_a_signature_are_at_worst_unreadable(seed: str, data: bytes) -> None:
    assert_loads_or_is_unreadable(SEEDS[seed][:12] + data)


@HOSTILE
@given(st.sampled_from(sorted(SEEDS)), st.floats(0, 1))
def test_a_truncated_image_is_at_worst_unreadable(seed: str, fraction: float) -> None:
    assert_loads_or_is_unreadable(SEEDS[seed][: int(len(SEEDS[seed]) * fraction)])


@HOSTILE
@given(
    st.sampled_from(sorted(SEEDS)), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)))
)
def test_changed_bytes_are_at_worst_unreadable(seed: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(SEEDS[seed])
    for offset, value in changes:
        data[offset % len(data)] = value
    assert_loads_or_is_unreadable(bytes(data))


def zero(data: bytes, place: int, junk: bytes) -> bytes:
    return data[:place] + bytes(len(junk)) + data[place + len(junk) :]


def flip(data: bytes, place: int, junk: bytes) -> bytes:
    turned = bytes(a ^ b for a, b in zip(data[place:], junk, strict=False))
    return data[:place] + turned + data[place + len(turned) :]


def overwrite(data: bytes, place: int, junk: bytes) -> bytes:
    return data[:place] + junk + data[place + len(junk) :]


def insert(data: bytes, place: int, junk: bytes) -> bytes:
    return data[:place] + junk + data[place:]


def drop(data: bytes, place: int, junk: bytes) -> bytes:
    return data[:place] + data[place + len(junk) :]


def truncate(data: bytes, place: int, junk: bytes) -> bytes:
    return data[:place] + junk


MUTATIONS = (zero, flip, overwrite, insert, drop, truncate)

JUNK = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.sampled_from(
        [
            b"\xff\xff\xff\xff",
            b"\0\0",
            b"\x7f\xff\xff\xff",
            b"\xff\xd9",
            b"\xff\xd8",
            b"\xff\xda",
            b"\xff\xc0",
            bytes(200),
        ]
    ),
)


@settings(HOSTILE, max_examples=80)
@given(
    st.lists(
        st.tuples(st.sampled_from(MUTATIONS), st.integers(0, 2**16), st.booleans(), JUNK),
        min_size=1,
        max_size=4,
    )
)
@pytest.mark.parametrize("seed", sorted(SEEDS.keys() - {"jpeg"}))
def test_a_mutated_image_is_accepted_only_if_it_decodes(
    seed: str, mutations: list[tuple[Callable[[bytes, int, bytes], bytes], int, bool, bytes]]
) -> None:
    data = SEEDS[seed]
    for mutation, place, early, junk in mutations:
        data = mutation(data, place % (min(len(data), 300 if early else len(data)) + 1), junk)
    assert_judged(data)


CLEAR = {
    "rgba png": encode(transparent(), "PNG"),
    "la png": encode(transparent().convert("LA"), "PNG"),
    "palette png": encode(Image.fromarray(corners()).convert("P"), "PNG", transparency=1),
    "rgb png with a colour": encode(noise(), "PNG", transparency=RED),
    "grey png with a value": encode(Image.fromarray(noise()).convert("L"), "PNG", transparency=9),
    "16-bit png": cv2.imencode(".png", np.asarray(transparent()).astype(np.uint16) * 257)[
        1
    ].tobytes(),
    "gif": encode(transparent(), "GIF"),
    "webp": encode(transparent(), "WEBP"),
    "lossless webp": encode(transparent(), "WEBP", lossless=True),
    "tiff": encode(transparent(), "TIFF"),
    "compressed tiff": encode(transparent(), "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("seed", CLEAR)
def test_a_transparent_image_is_accepted_only_if_opencv_decodes_it_too(seed: str) -> None:
    assert judge(CLEAR[seed]).reason is None
    assert Warn.TRANSPARENCY_FLATTENED in judge(CLEAR[seed]).warnings
    random = np.random.default_rng(1)
    accepted = 0
    for _ in range(300):
        data = CLEAR[seed]
        mutation = MUTATIONS[random.integers(len(MUTATIONS))]
        end = len(data) if random.integers(2) else min(len(data), 200)
        data = mutation(data, int(random.integers(end)), random.bytes(int(random.integers(1, 20))))
        assert_judged(data)
        judged = judge(data)
        if judged.reason is None and Warn.WRONG_END not in judged.warnings:  # OpenCV reads no other
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            assert decoded is not None or (seed == "gif" and not gif.has_usual_palette(data))
            accepted += 1
    assert accepted < 300


def test_an_image_that_only_pillow_decodes_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    for name, data in CLEAR.items():
        is_other_kind = name == "tiff"  # uncompressed and whole, it cannot be damaged
        expected = RejectReason.UNSUPPORTED if is_other_kind else RejectReason.DAMAGED
        assert name == "gif" or judge(data).reason is expected


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_an_opencv_error_is_damage_unless_memory_ran_out(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        error = cv2.error("odd input")
        error.code = code
        raise error

    monkeypatch.setattr(cv2, "cvtColor", fails)
    data = encode(corners(), form)
    code = -215  # an assertion
    assert judge(data) == Judgement(RejectReason.DAMAGED)
    code = decoding.OUT_OF_MEMORY
    with pytest.raises(MemoryError):
        judge(data)


def test_mutated_jpegs_that_are_accepted_decode_with_opencv() -> None:
    random = np.random.default_rng(0)
    accepted = 0
    for seed in ("plain jpeg", "progressive jpeg", "odd jpeg"):
        for _ in range(1000):
            data = SEEDS[seed]
            mutation = MUTATIONS[random.integers(len(MUTATIONS))]
            junk = random.bytes(int(random.integers(1, 20)))
            data = mutation(data, int(random.integers(len(data))), junk)
            assert_judged(data)
            accepted += judge(data).reason is None
    assert 100 < accepted < 2500


@settings(max_examples=200)
@given(st.data())
def test_an_image_that_the_filter_rejects_as_damaged_is_not_loaded(draw: st.DataObject) -> None:
    data = bytearray(encode(corners(64, 80), "JPEG", quality=90))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(2, len(data) - 1))] = draw.draw(st.integers(0, 255))
    broken = bytes(data[: draw.draw(st.integers(len(data) // 2, len(data)))])
    load_reason: RejectReason | None = None
    try:
        decoding.load(broken, FILTER_PARAMS.max_megapixels, FILTER_PARAMS.store_side)
    except Unreadable as error:
        load_reason = error.reason
    judged = judge(broken).reason
    assert judged is load_reason or (
        load_reason is None and judged in {RejectReason.BLANK, RejectReason.TOO_SMALL}
    )
