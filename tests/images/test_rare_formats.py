"""BMP, GIF and TIFF: the picture, or `unsupported`, never another picture."""

import io
import struct
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.images import decoding
from pipeline.images.header import RejectReason, Unreadable, Warn, read_header
from pipeline.images.pixels import Pixels
from tests.builders.image_files import bmp, rle8, scene, strip, tiff
from tests.builders.odd_images import encode

WIDE = scene(60, 72)
GREY = np.asarray(Image.fromarray(WIDE).convert("L"))
GREY_PALETTE = b"".join(bytes([n, n, n, 0]) for n in range(256))


def load(data: bytes) -> Pixels:
    return decoding.load(data, 1, 400)[1]


def reason(data: bytes) -> RejectReason | None:
    try:
        load(data)
    except Unreadable as error:
        return error.reason
    return None


def assert_near(pixels: Pixels, expected: np.ndarray, tolerance: int = 1) -> None:
    expected = expected if expected.ndim == 3 else np.dstack([expected] * 3)
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


# ---- BMP ----


def rows(picture: np.ndarray, width_bytes: int) -> bytes:
    """Rows from the bottom to the top, padded."""
    return b"".join(row.tobytes().ljust(width_bytes, b"\0") for row in picture[::-1])


def packed_16(picture: Pixels, bits: tuple[int, int, int]) -> bytes:
    red, green, blue = (picture[:, :, n].astype(np.uint16) >> 8 - bits[n] for n in range(3))
    values = (red << bits[1] + bits[2] | green << bits[2] | blue).astype("<u2")
    return rows(values, -(-values.shape[1] * 2 // 4) * 4)


MASKS_565, MASKS_555 = (0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)


@pytest.mark.parametrize("header_bytes", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("width", [70, 71, 72])
def test_a_bmp_of_16_bits_is_read(header_bytes: int, width: int) -> None:
    picture = scene(60, width)
    masks = (*MASKS_565, 0)[: 4 if header_bytes >= 56 else 3]
    if header_bytes == 40:  # the masks follow the header
        pixels = struct.pack("<3I", *masks) + packed_16(picture, (5, 6, 5))
        data = bytearray(bmp(width, 60, 16, pixels, 3, 40))
        data[10:14] = struct.pack("<I", 14 + 40 + 12)
    else:
        data = bytearray(bmp(width, 60, 16, packed_16(picture, (5, 6, 5)), 3, header_bytes, masks))
    assert_near(load(bytes(data)), picture, 8)
    brightest = np.full((40, width, 3), 255, np.uint8)
    brightest[0] = 0
    white = bmp(width, 40, 16, packed_16(brightest, (5, 5, 5)))
    assert load(white)[1:].min() == 255  # OpenCV gives 248


@pytest.mark.parametrize("header_bytes", [12, 40, 64, 108, 124])
@pytest.mark.parametrize("width", [69, 72])
def test_a_bmp_of_24_bits_is_read_with_any_header(header_bytes: int, width: int) -> None:
    picture = scene(60, width)
    pixels = rows(np.ascontiguousarray(picture[:, :, ::-1]).reshape(60, -1), -(-width * 3 // 4) * 4)
    assert_near(load(bmp(width, 60, 24, pixels, header_bytes=header_bytes)), picture, 0)


def test_a_bmp_from_the_top_down_is_read() -> None:
    pixels = rows(WIDE[::-1, :, ::-1].reshape(60, -1), 216)
    assert_near(load(bmp(72, -60, 24, pixels)), WIDE, 0)


@pytest.mark.parametrize("header_bytes", [40, 56, 124])
def test_the_fourth_byte_of_a_pixel_is_alpha_only_if_a_mask_says_so(header_bytes: int) -> None:
    rgba = np.dstack([WIDE[:, :, ::-1], np.zeros((60, 72), np.uint8)])
    plain = bmp(72, 60, 32, rows(rgba.reshape(60, -1), 288))
    assert_near(load(plain), WIDE, 0)
    if header_bytes > 40:
        masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        data = bmp(72, 60, 32, rows(rgba.reshape(60, -1), 288), 3, header_bytes, masks)
        assert read_header(data).warnings == (Warn.TRANSPARENCY_FLATTENED,)
        assert (load(data) == 255).all()


@pytest.mark.parametrize("width", [69, 70, 71, 72])
def test_an_rle_bmp_with_padded_rows_is_not_scrambled(width: int) -> None:
    """As ImageMagick writes it; OpenCV starts the next row in the padding."""
    grey = GREY[:, :width] // 32 * 32
    padded = np.pad(grey, ((0, 0), (0, 72 - width)))
    data = bmp(width, 60, 8, rle8(padded), 1, palette=GREY_PALETTE)
    assert_near(load(data), grey, 0)
    lenient = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert lenient is not None
    difference = np.abs(lenient.astype(int) - grey[:, :, None]).mean()
    assert difference == 0 if width == 72 else difference > 20


def rle4_rows() -> bytes:
    """Rows of 70 pixels: 40 of value 1 and 2 in turn, 29 single ones, and one of value 3."""
    single = bytes([0x45] * 14 + [0x40])
    row = bytes([40, 0x12, 0, 29]) + single + b"\0" + bytes([1, 0x30, 0, 0])
    return row * 60 + b"\0\1"


def test_runs_of_four_bits_are_read() -> None:
    palette = b"".join(bytes([n * 16, n * 16, n * 16, 0]) for n in range(16))
    row = [1, 2] * 20 + [4, 5] * 14 + [4, 3]
    expected = np.tile(np.array(row, np.uint8) * 16, (60, 1))
    assert_near(load(bmp(70, 60, 4, rle4_rows(), 2, palette=palette)), expected, 0)


UNCERTAIN = {
    "a row too short": bytes([70, 9, 0, 0]) * 30 + bytes([60, 9, 0, 0]) + bytes([70, 9, 0, 0]) * 29,
    "a row too long": bytes([70, 9, 0, 0]) * 59 + bytes([75, 9, 0, 0]),
    "an empty row": bytes([70, 9, 0, 0]) * 30 + b"\0\0" + bytes([70, 9, 0, 0]) * 29,
    "a row too many": bytes([70, 9, 0, 0]) * 61,
    "a jump": bytes([70, 9, 0, 0]) * 30 + bytes([0, 2, 5, 1]) + bytes([70, 9, 0, 0]) * 29,
    "no rows": bytes([255, 9]) * 17,
    "single pixels past the end of a row": bytes([66, 9, 0, 8, *range(8), 0, 0]) * 60,
}


@pytest.mark.parametrize("name", UNCERTAIN)
def test_run_lengths_that_leave_pixels_open_are_shown_as_two_decoders_agree(name: str) -> None:
    data = bmp(70, 60, 8, UNCERTAIN[name] + b"\0\1", 1, palette=GREY_PALETTE)
    second = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if reason(data) is None:
        assert second is not None
        assert_near(load(data), second, 0)
    else:
        assert reason(data) is RejectReason.UNSUPPORTED


@pytest.mark.parametrize(
    "data",
    [
        bmp(70, 60, 2, bytes(20 * 60), palette=GREY_PALETTE[:16]),
        bmp(70, 60, 0, encode(scene(), "JPEG"), 4),
        bmp(70, 60, 0, encode(scene(), "PNG"), 5),
        bmp(70, 60, 16, bytes(140 * 60), 3, 124, (0xF00, 0xF0, 0xF, 0xF000)),
        bmp(70, 60, 32, bytes(280 * 60), 3, 124, (0xFFC00000, 0x3FF000, 0xFFC, 0)),
    ],
    ids=["2 bits", "JPEG inside", "PNG inside", "4444", "10 bits"],
)
def test_a_whole_bmp_that_no_decoder_reads_is_unsupported(data: bytes) -> None:
    assert reason(data) is RejectReason.UNSUPPORTED
    assert reason(data[:50]) is RejectReason.DAMAGED


@pytest.mark.parametrize("bits", [8, 24])
def test_a_bmp_that_is_cut_is_damaged(bits: int) -> None:
    data = bmp(72, 60, bits, bytes(9 * bits * 60), palette=GREY_PALETTE if bits == 8 else b"")
    assert reason(data[:-100]) is RejectReason.DAMAGED


# ---- GIF ----


def with_background(data: bytes, index: int) -> bytes:
    return data[:11] + bytes([index]) + data[12:]


NOISE = np.random.default_rng(0).integers(0, 256, (60, 72), np.uint8)
GIFS = {
    "few colours": encode(Image.fromarray(WIDE).quantize(5), "GIF"),
    "many colours": encode(Image.fromarray(WIDE).quantize(256), "GIF"),
    "a full table of codes": encode(Image.fromarray(NOISE).resize((400, 300)), "GIF"),
    "interlaced": encode(Image.fromarray(NOISE), "GIF", interlace=1),
    "black and white": encode(Image.fromarray(WIDE).convert("1"), "GIF"),
}


@pytest.mark.parametrize("name", GIFS)
def test_a_gif_that_opencv_refuses_is_damaged_only_if_something_is_missing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = GIFS[name]
    assert reason(data) is None
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    assert reason(data) is RejectReason.UNSUPPORTED
    assert reason(data[:-1]) is RejectReason.UNSUPPORTED  # only its trailer is missing
    assert reason(data[:-20]) is RejectReason.DAMAGED
    codes = len(data) * 2 // 3
    assert reason(data[:codes] + data[codes + 20 :]) is RejectReason.DAMAGED


def test_a_background_outside_the_palette_is_no_damage() -> None:
    data = with_background(GIFS["few colours"], 200)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is None
    assert np.array_equal(load(data), load(GIFS["few colours"]))


def test_two_decoders_that_differ_are_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    other = np.ascontiguousarray(WIDE[::-1])
    for form in ("GIF", "TIFF"):
        data = encode(Image.fromarray(WIDE), form)
        with monkeypatch.context() as patch:
            patch.setattr(cv2, "imdecode", lambda *_: other)
            assert reason(data) is RejectReason.UNSUPPORTED
        assert reason(data) is None


# ---- TIFF ----

CMYK = Image.fromarray(WIDE).convert("CMYK")
DEEP = (GREY.astype(np.uint16) * 257).astype("<u2")


@pytest.mark.parametrize(
    ("data", "expected", "tolerance"),
    [
        (encode(WIDE, "TIFF"), WIDE, 0),
        (encode(WIDE, "TIFF", compression="tiff_lzw"), WIDE, 0),
        (encode(WIDE, "TIFF", compression="tiff_adobe_deflate"), WIDE, 0),
        (encode(WIDE, "TIFF", compression="packbits"), WIDE, 0),
        (encode(WIDE, "TIFF", compression="jpeg", quality=95), WIDE, 30),
        (encode(WIDE, "TIFF", big_tiff=True), WIDE, 0),
        (encode(Image.fromarray(GREY), "TIFF"), GREY, 0),
        (encode(CMYK, "TIFF"), WIDE, 3),
        (encode(CMYK, "TIFF", compression="tiff_lzw"), WIDE, 3),
        (encode(Image.fromarray(WIDE).convert("YCbCr"), "TIFF"), WIDE, 4),
        (encode(Image.fromarray(DEEP), "TIFF"), GREY, 1),
        (cv2.imencode(".tiff", WIDE[:, :, ::-1].astype(np.uint16) * 257)[1].tobytes(), WIDE, 1),
        (tiff(WIDE.tobytes(), strip(72, 60, (8, 8, 8), 2, WIDE.size)), WIDE, 0),
        (tiff((255 - GREY).tobytes(), strip(72, 60, (8,), 0, GREY.size)), GREY, 0),
        (tiff(GREY.tobytes(), strip(72, 60, (8,), 1, GREY.size)), GREY, 0),
        (
            tiff(
                ((GREY[:, ::2] & 0xF0) | (GREY[:, 1::2] >> 4)).tobytes(),
                strip(72, 60, (4,), 1, GREY.size // 2),
            ),
            (GREY >> 4) * 17,
            0,
        ),
        (
            tiff(np.packbits(GREY > 127, axis=1).tobytes(), strip(72, 60, (1,), 1, 9 * 60)),
            np.where(GREY > 127, 255, 0),
            0,
        ),
    ],
)
def test_a_tiff_shows_its_picture(data: bytes, expected: np.ndarray, tolerance: int) -> None:
    assert_near(load(data), expected, tolerance)


def changed(**tags: Any) -> dict[int, tuple[int, Any]]:
    """An RGB picture with other tags."""
    named = {"subfile": 254, "bits": 258, "photometric": 262, "format": 339, "dng": 50706}
    entries = strip(72, 60, (8, 8, 8), 2, WIDE.size)
    kinds = {"subfile": 4, "dng": 1}
    return entries | {named[name]: (kinds.get(name, 3), value) for name, value in tags.items()}


def canon_raw() -> bytes:
    """Its first directory starts at byte 16, after Canon's own header."""
    entries = {256: (4, (72,)), 257: (4, (60,)), 259: (3, (6,))}
    return b"II*\0\x10\0\0\0CR\2\0" + bytes(4) + tiff(b"", entries, offset=16)[8:]


LARGE = strip(144, 120, (8, 8, 8), 2, WIDE.size)
SENSOR = strip(144, 120, (16,), 32803, WIDE.size)
RAW = {
    "DNG with a preview first": tiff(
        WIDE.tobytes(), changed(subfile=(1,), dng=(1, 4, 0, 0)), sub=SENSOR
    ),
    "DNG without a preview": tiff(WIDE.tobytes(), changed(dng=(1, 4, 0, 0))),
    "linear DNG": tiff(WIDE.tobytes(), changed(photometric=(34892,))),
    "sensor values alone": tiff(WIDE.tobytes(), SENSOR),
    "a preview first, sensor values below (NEF, ARW)": tiff(
        WIDE.tobytes(), changed(subfile=(1,)), sub=SENSOR
    ),
    "sensor values below, no word of a preview": tiff(WIDE.tobytes(), changed(), sub=SENSOR),
    "sensor values in a later picture": tiff(WIDE.tobytes(), changed(), SENSOR),
    "a larger picture below": tiff(WIDE.tobytes(), changed(), sub=LARGE),
    "a preview first, by an old tag": tiff(WIDE.tobytes(), changed() | {255: (3, (2,))}, LARGE),
    "a preview first, then the photograph": tiff(WIDE.tobytes(), changed(subfile=(1,)), LARGE),
    "a preview first, then a signature (CR2)": canon_raw(),
}


@pytest.mark.parametrize("name", RAW)
def test_a_raw_photograph_is_not_taken_for_its_preview(name: str) -> None:
    assert reason(RAW[name]) is RejectReason.UNSUPPORTED


@pytest.mark.parametrize(
    "data",
    [
        tiff(WIDE.tobytes(), changed(), changed(subfile=(1,))),
        tiff(WIDE.tobytes(), changed(), sub=changed(subfile=(1,))),
        tiff(WIDE.tobytes(), changed(), LARGE),
        tiff(WIDE.tobytes(), changed(subfile=(2,)), changed(subfile=(2,))),
    ],
    ids=["thumbnail after", "thumbnail below", "larger page after", "pages"],
)
def test_the_first_page_of_a_tiff_is_taken(data: bytes) -> None:
    assert_near(load(data), WIDE, 0)


@pytest.mark.parametrize(
    "data",
    [
        tiff(WIDE.tobytes(), changed(format=(2, 2, 2))),
        tiff(WIDE.tobytes(), changed(photometric=(9,))),
        tiff(WIDE.tobytes(), changed(photometric=(10,))),
        tiff(WIDE.tobytes(), changed(photometric=(32845,))),
        tiff(DEEP.tobytes(), strip(72, 60, (16,), 1, DEEP.nbytes) | {339: (3, (2,))}),
        tiff(DEEP.tobytes(), strip(72, 60, (12,), 1, DEEP.nbytes)),
        encode(Image.fromarray(GREY.astype(np.float32)), "TIFF"),
        encode(Image.fromarray(GREY.astype(np.int32)), "TIFF"),
    ],
    ids=["signed", "ICC Lab", "ITU Lab", "LogLuv", "signed 16", "12 bits", "float", "32 bits"],
)
def test_samples_without_a_known_brightness_are_unsupported(data: bytes) -> None:
    assert reason(data) is RejectReason.UNSUPPORTED


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "raw"])
def test_a_tiff_that_is_cut_is_damaged(compression: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 72, 3), np.uint8)
    options = {} if compression == "raw" else {"compression": compression}
    data = encode(noise, "TIFF", **options)
    assert reason(data[: len(data) - 2000]) is RejectReason.DAMAGED


def test_directories_without_end_are_no_loop() -> None:
    data = bytearray(tiff(WIDE.tobytes(), changed()))
    start = struct.unpack_from("<I", data, 4)[0]
    struct.pack_into("<I", data, start + 2 + 12 * len(changed()), start)
    assert_near(load(bytes(data)), WIDE, 0)


@pytest.mark.parametrize("name", ["ORF", "RW2", "RAF", "CRW", "CR3", "X3F", "MRW"])
def test_raw_photographs_of_other_formats_are_unsupported(name: str) -> None:
    signatures = {
        "ORF": b"IIRO\x08\0\0\0",
        "RW2": b"IIU\0\x18\0\0\0",
        "RAF": b"FUJIFILMCCD-RAW 0201",
        "CRW": b"II\x1a\0\0\0HEAPCCDR",
        "CR3": b"\0\0\0\x18ftypcrx \0\0\0\1",
        "X3F": b"FOVb\0\0\3\0",
        "MRW": b"\0MRM\0\0\0\0",
    }
    assert reason(signatures[name] + bytes(100)) is RejectReason.UNSUPPORTED


# ---- JPEG ----


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7])
def test_a_lossless_or_hierarchical_jpeg_is_unsupported(marker: int) -> None:
    data = encode(WIDE, "JPEG")
    place = data.index(b"\xff\xc0")
    assert (
        reason(data[: place + 1] + bytes([marker]) + data[place + 2 :]) is RejectReason.UNSUPPORTED
    )


def test_bytes_that_look_like_another_frame_header_are_no_frame_header() -> None:
    data = encode(WIDE, "JPEG", comment=b"\xff\xc0\0\x11\x0c")
    assert reason(data) is None


@pytest.mark.parametrize("has_adobe", [True, False])
def test_cmyk_in_a_jpeg_is_read_with_and_without_the_adobe_segment(has_adobe: bool) -> None:
    data = encode(CMYK, "JPEG", quality=95)
    place = data.index(b"Adobe")
    if not has_adobe:
        data = data[: place - 4] + data[place + 12 :]
    assert_near(load(data), WIDE, 40)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"


def test_a_kind_of_tiff_that_opencv_does_not_read_is_not_called_damaged() -> None:
    """Sixteen bits of CMYK."""
    values = (np.asarray(CMYK).astype(np.uint16) * 257).astype("<u2")
    data = tiff(values.tobytes(), strip(72, 60, (16, 16, 16, 16), 5, values.nbytes))
    assert reason(data) is None
    assert_near(load(data), WIDE, 3)


@pytest.mark.parametrize("samples", [4, 5])
def test_a_whole_tiff_that_only_one_decoder_reads_is_unsupported(samples: int) -> None:
    """Subsampled colour differences, two more channels."""
    if samples == 4:
        size = WIDE.size // 2
        data = tiff(bytes(range(180)) * (size // 180), strip(72, 60, (8, 8, 8), 6, size))
    else:
        picture = np.dstack([WIDE, WIDE[:, :, :2]])
        tags = strip(72, 60, (8,) * 5, 2, picture.size) | {338: (3, (0, 0))}
        data = tiff(picture.tobytes(), tags)
    assert reason(data) is RejectReason.UNSUPPORTED
    assert reason(data[:3000]) is RejectReason.DAMAGED
