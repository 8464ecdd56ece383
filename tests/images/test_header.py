import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipeline.images.format_detection import LATE, name_other_image
from pipeline.images.header import (
    RejectReason,
    Unreadable,
    Warn,
    read_header,
)

ORIENTATION = 0x0112
PICTURE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
BLACK = Image.new("RGB", (64, 48))


def encode(form: str, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PICTURE).convert(mode).save(file, form, **options)
    return file.getvalue()


def encode_with_opencv(ending: str, kind: type = np.uint8) -> bytes:
    """`PICTURE` as OpenCV writes it; grey or black and white if the format requires it."""
    pixels = PICTURE[:, :, 0] if ending in {".pbm", ".pgm"} else PICTURE
    return cv2.imencode(ending, pixels.astype(kind))[1].tobytes()


def tiff(kind: type) -> bytes:
    """A grey TIFF with values of this type."""
    values: np.ndarray[Any, Any] = PICTURE[:, :, 0].astype(kind)
    form = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    entries = [
        (256, 64),
        (257, 48),
        (258, 8 * values.itemsize),
        (259, 1),
        (262, 1),
        (273, 200),
        (277, 1),
        (278, 48),
        (279, values.nbytes),
        (339, form),
    ]
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + fields + bytes(4)
    return head.ljust(200, b"\0") + values.tobytes()


def orientation_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def with_exif(data: bytes, exif: bytes) -> bytes:
    """Insert Exif after the signature of a JPEG or a PNG."""
    if data.startswith(b"\xff\xd8"):
        body = b"Exif\0\0" + exif
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    return insert_chunk(data, b"eXIf", exif, data.index(b"IDAT") - 4)


def insert_chunk(data: bytes, kind: bytes, body: bytes, place: int) -> bytes:
    chunk = struct.pack(">I", len(body)) + kind + body
    return data[:place] + chunk + struct.pack(">I", zlib.crc32(kind + body)) + data[place:]


def reject_reason(data: bytes) -> tuple[RejectReason, str]:
    with pytest.raises(Unreadable) as caught:
        read_header(data)
    return caught.value.reason, caught.value.format


# ---- reading headers ----


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_format_and_size_are_read(form: str) -> None:
    header = read_header(encode(form))
    assert (header.format, header.width, header.height, header.warnings) == (form, 64, 48, ())
    assert header.plain is (form in {"JPEG", "PNG"})


@pytest.mark.parametrize("mode", ["L", "CMYK", "1", "P", "RGBA", "LA", "I;16"])
def test_only_rgb_is_plain(mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    assert not read_header(encode(form, mode)).plain


def test_the_header_of_a_photograph_is_enough() -> None:
    data = encode("JPEG", quality=100)
    assert read_header(data[: data.index(b"\xff\xda") + 20]) == read_header(data)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8, 0, 9])
def test_an_orientation_that_rotates_is_a_warning(form: str, orientation: int) -> None:
    header = read_header(encode(form, exif=orientation_exif(orientation)))
    assert header.warnings == ((Warn.ROTATED,) if 2 <= orientation <= 8 else ())
    assert {header.width, header.height} == {64, 48}  # for a TIFF, Pillow returns the upright size
    assert not (header.plain and header.warnings)


@pytest.mark.parametrize(
    "exif", [b"", b"junk", b"MM\0*", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff\x01\x12\0"]
)
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_broken_exif_is_no_reason_to_refuse(form: str, exif: bytes) -> None:
    header = read_header(with_exif(encode(form), exif))
    assert (header.width, header.height, header.warnings) == (64, 48, ())


@pytest.mark.parametrize("mebibytes", [2, 17])
@pytest.mark.parametrize("kind", ["profile", "text", "international text"])
def test_a_png_may_carry_mebibytes_of_profile_or_text(kind: str, mebibytes: int) -> None:
    size = mebibytes * 2**20
    options: dict[str, Any] = {"icc_profile": bytes(size)}
    if kind != "profile":
        info = PngInfo()
        add = info.add_text if kind == "text" else info.add_itxt
        add("Comment", "x" * size, zip=True)  # a few kilobytes that claim to be many
        options = {"pnginfo": info}
    header = read_header(encode("PNG", **options))
    assert (header.width, header.height, header.plain) == (64, 48, True)


def test_a_file_with_metadata_that_pillow_warns_about_is_not_plain() -> None:
    cut = b"MM\0*\0\0\0\x08\0\2\x01\x12\0\x03"  # declares two entries, contains half of one
    assert not read_header(with_exif(encode("JPEG"), cut)).plain


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode("GIF", save_all=True, append_images=[BLACK]), {Warn.FIRST_FRAME_ONLY}),
        (encode("PNG", "RGBA"), {Warn.TRANSPARENCY_FLATTENED}),
        (encode("JPEG", "CMYK"), {Warn.CMYK_CONVERTED}),
        (encode("PNG", "I;16"), {Warn.REDUCED_TO_8_BIT}),
        (cv2.imencode(".png", PICTURE.astype(np.uint16))[1].tobytes(), {Warn.REDUCED_TO_8_BIT}),
        (cv2.imencode(".tiff", PICTURE.astype(np.uint16))[1].tobytes(), {Warn.REDUCED_TO_8_BIT}),
        (encode("TIFF", "I;16"), {Warn.REDUCED_TO_8_BIT}),
        (encode("MPO", save_all=True, append_images=[BLACK.copy()]), {Warn.FIRST_FRAME_ONLY}),
        (encode("TIFF", save_all=True, append_images=[BLACK]), {Warn.FIRST_FRAME_ONLY}),
        (
            encode("PNG", "RGBA", exif=orientation_exif(3)),
            {Warn.ROTATED, Warn.TRANSPARENCY_FLATTENED},
        ),
    ],
)
def test_odd_images_have_warnings(data: bytes, expected: set[Warn]) -> None:
    header = read_header(data)
    assert set(header.warnings) == expected
    assert not header.plain


# ---- unreadable headers ----


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"<html>404</html>",
        b"%PDF-1.4",
        b"\xff",
        b"BM",
        b"RIFF\x10\0\0\0WAVEfmt ",
        b"GIF",
        b"PK\3\4" + encode("PNG"),
        b"P8 64 48 255\n",
        b"P6",
        b"P64",
        b"Portable",
        b"#?RADIO",
        b"\x01\xda\2\1\0\3",
        b"DDSX",
        b"icon",
        b"BM of a text that is no picture",
        encode("PCX"),
    ],
)
def test_other_content_is_not_an_image(data: bytes) -> None:
    assert reject_reason(data) == (RejectReason.NOT_AN_IMAGE, "")


@pytest.mark.parametrize("start", [b" ", b"5c\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_image_behind_text_is_named(start: bytes) -> None:
    assert reject_reason(start + encode("JPEG")) == (RejectReason.NOT_AN_IMAGE, LATE)


@pytest.mark.parametrize("brand", [b"isom", b"qt  "])
def test_a_video_is_not_an_image(brand: bytes) -> None:
    data = b"\0\0\0\x18ftyp" + brand + bytes(4)
    assert reject_reason(data) == (RejectReason.NOT_AN_IMAGE, "video")


@pytest.mark.parametrize(
    "data",
    [
        encode("ICO"),
        b"\0\0\2\0\1\0  \0\0",
        encode("JPEG2000"),
        b"\xff\x4f\xff\x51\0\x2f",
        b"\xff\x0a\xfa\x1f",
        b"\0\0\0\x0cJXL \r\n\x87\n",
        b"8BPS\0\1",
        encode("PPM"),
        encode("PPM", "L"),
        encode("PPM", "1"),
        *(encode_with_opencv(ending) for ending in (".pbm", ".pgm", ".ppm", ".pam", ".sr", ".ras")),
        *(b"P%d\n64 48\n255\n" % number for number in range(1, 7)),
        b"P7\nWIDTH 64\n",
        *(encode_with_opencv(ending, np.float32) for ending in (".pfm", ".hdr")),
        b"Pf\n64 48\n-1.0\n",
        encode("SGI"),
        encode("SGI", "L"),
        encode("SGI", bpc=2),
        b"\x01\xda\1\1\0\3",
        encode("DDS"),
        encode("ICNS"),
    ],
)
def test_an_image_of_another_format_is_unsupported(data: bytes) -> None:
    reason, form = reject_reason(data)
    assert reason is RejectReason.UNSUPPORTED
    assert form == name_other_image(data)


@pytest.mark.parametrize("kind", [np.float32, np.uint32, np.int32])
def test_a_tiff_of_floats_or_of_more_than_16_bits_is_unsupported(kind: type) -> None:
    assert reject_reason(tiff(kind)) == (RejectReason.UNSUPPORTED, "TIFF")


@pytest.mark.parametrize("mode", ["I", "F"])
def test_a_tiff_in_the_modes_i_and_f_is_unsupported(mode: str) -> None:
    assert reject_reason(encode("TIFF", mode)) == (RejectReason.UNSUPPORTED, "TIFF")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_tiff_of_up_to_16_bits_is_read(kind: type) -> None:
    assert read_header(tiff(kind)).format == "TIFF"


@pytest.mark.parametrize("marker", [b"\xff\xc0", b"\xff\xc1", b"\xff\xc2"])
def test_a_jpeg_of_12_bits_is_unsupported(marker: bytes) -> None:
    data = encode("JPEG")
    place = data.index(b"\xff\xc0")
    deep = data[:place] + marker + data[place + 2 : place + 4] + b"\x0c" + data[place + 5 :]
    assert reject_reason(deep) == (RejectReason.UNSUPPORTED, "JPEG")


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"\xff\xd8\xff", "JPEG"),
        (b"\xff\xd8", "JPEG"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "JPEG"),
        (encode("JPEG")[:100], "JPEG"),
        (b"\xff\xd8\xff\xd9", "JPEG"),
        (encode("PNG")[:12], "PNG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (encode("GIF")[:8], "GIF"),
        (encode("TIFF")[:6], "TIFF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (encode("WEBP")[:14], "WEBP"),
        (encode("BMP")[:20], "BMP"),
        (encode("BMP")[:14] + b"\xff\0\0\0" + encode("BMP")[18:], "BMP"),
        (encode("TIFF", big_tiff=True)[:12], "TIFF"),
        (b"II+\0\x08\0\0\0" + b"\xff" * 8, "TIFF"),
        (b"MM\0+\0\x08\0\0" + b"\xff" * 8, "TIFF"),
    ],
)
def test_a_signature_with_a_broken_header_is_damaged(data: bytes, form: str) -> None:
    assert reject_reason(data) == (RejectReason.DAMAGED, form)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_header_cut_at_any_length_is_read_or_refused(form: str) -> None:
    data = encode(form)
    outcomes = [read_or_refuse(data[:length]) for length in range(min(len(data), 1000))]
    assert set(outcomes) <= {RejectReason.NOT_AN_IMAGE, RejectReason.DAMAGED, (form, 64, 48)}
    assert outcomes[0] is RejectReason.NOT_AN_IMAGE
    assert read_or_refuse(data) == (form, 64, 48)


def read_or_refuse(data: bytes) -> RejectReason | tuple[str, int, int]:
    try:
        header = read_header(data)
    except Unreadable as error:
        return error.reason
    return header.format, header.width, header.height
