import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pipeline.images import decoding
from pipeline.images.formats.metadata import Metadata
from pipeline.images.header import Warn
from pipeline.images.orientation import read_orientation
from tests.builders.image_files import (
    insert_chunk,
    insert_segment,
    raw_profile,
    riff_chunk,
    webp,
)
from tests.builders.odd_images import (
    BLUE,
    GREY,
    RED,
    ROTATED_BY_90,
    assert_colours,
    corners,
    encode,
    exif_with_entry,
    orientation_exif,
)

EXIF = exif_with_entry(ROTATED_BY_90)
UPRIGHT_EXIF = exif_with_entry(ROTATED_BY_90.replace(b"\0\x06", b"\0\x01"))
OTHER_EXIF = exif_with_entry(b"\x01\x1a" + ROTATED_BY_90[2:])
BAD_EXIF = exif_with_entry(ROTATED_BY_90.replace(b"\0\x06", b"\0\x09"))
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></x:xmpmeta>'
)
XMP_ELEMENT = b"<rdf:Description><tiff:Orientation>6</tiff:Orientation></rdf:Description>"
APP1_XMP = b"http://ns.adobe.com/xap/1.0/\0"
ITXT = b"XML:com.adobe.xmp\0\0\0\0\0"
PNG, JPEG = encode(corners(), "PNG"), encode(corners(), "JPEG", quality=95)
WEBP = encode(corners(), "WEBP", lossless=True)[12:]


def ztxt(key: bytes, text: bytes) -> bytes:
    return key + b"\0\0" + zlib.compress(text)


def extended_webp(*metadata: bytes) -> bytes:
    flags = 0x0C  # EXIF and XMP
    size = (63).to_bytes(3, "little") + (47).to_bytes(3, "little")
    return webp(riff_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + size), WEBP, *metadata)


def tiff(xmp: bytes, orientation: int | None = None, **options: Any) -> bytes:
    tags = ImageFileDirectory_v2()
    if orientation:
        tags[274] = orientation
    tags[700], tags.tagtype[700] = xmp, 1
    return encode(corners(), "TIFF", tiffinfo=tags, **options)


def gif_with_xmp() -> bytes:
    data = encode(Image.fromarray(corners()).quantize(8), "GIF")
    place = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    trailer = b"\1" + bytes(range(255, -1, -1)) + b"\0"
    return data[:place] + b"!\xff\x0bXMP DataXMP" + XMP + trailer + data[place:]


SIDEWAYS = {
    "PNG, eXIf": insert_chunk(PNG, b"eXIf", EXIF),
    "PNG, eXIf after IDAT": insert_chunk(PNG, b"eXIf", EXIF, before=b"IEND"),
    "PNG, eXIf with a prefix": insert_chunk(PNG, b"eXIf", b"Exif\0\0" + EXIF),
    "PNG, zTXt": insert_chunk(
        PNG, b"zTXt", ztxt(b"Raw profile type exif", raw_profile(b"exif", b"Exif\0\0" + EXIF))
    ),
    "PNG, zTXt after IDAT": insert_chunk(
        PNG, b"zTXt", ztxt(b"Raw profile type exif", raw_profile(b"exif", EXIF)), before=b"IEND"
    ),
    "PNG, tEXt": insert_chunk(
        PNG, b"tEXt", b"Raw profile type APP1\0" + raw_profile(b"APP1", b"Exif\0\0" + EXIF)
    ),
    "PNG, iTXt": insert_chunk(
        PNG, b"iTXt", b"Raw profile type exif\0\0\0\0\0" + raw_profile(b"exif", EXIF)
    ),
    "PNG, compressed iTXt": insert_chunk(
        PNG,
        b"iTXt",
        b"Raw profile type exif\0\1\0\0\0" + zlib.compress(raw_profile(b"exif", EXIF)),
    ),
    "PNG, XMP": insert_chunk(PNG, b"iTXt", ITXT + XMP),
    "PNG, XMP with another prefix": insert_chunk(
        PNG,
        b"iTXt",
        ITXT + b'<a xmlns:t="http://ns.adobe.com/tiff/1.0/" b:Orientation="3" t:Orientation="6"/>',
    ),
    "PNG, XMP after IDAT": insert_chunk(PNG, b"iTXt", ITXT + XMP_ELEMENT, before=b"IEND"),
    "PNG, raw XMP": insert_chunk(
        PNG, b"tEXt", b"Raw profile type xmp\0" + raw_profile(b"xmp", XMP)
    ),
    "PNG, XMP in a raw APP1": insert_chunk(
        PNG, b"tEXt", b"Raw profile type APP1\0" + raw_profile(b"app1", APP1_XMP + XMP)
    ),
    "JPEG, EXIF": insert_segment(JPEG, 0xE1, b"Exif\0\0" + EXIF),
    "JPEG, XMP": insert_segment(JPEG, 0xE1, APP1_XMP + XMP),
    "JPEG, XMP in UTF-16": insert_segment(JPEG, 0xE1, APP1_XMP + XMP.decode().encode("utf-16-le")),
    "JPEG, XMP before EXIF": insert_segment(
        insert_segment(JPEG, 0xE1, b"Exif\0\0" + EXIF), 0xE1, APP1_XMP + XMP.replace(b"6", b"3")
    ),
    "JPEG, EXIF without before EXIF with": insert_segment(
        insert_segment(JPEG, 0xE1, b"Exif\0\0" + EXIF), 0xE1, b"Exif\0\0" + OTHER_EXIF
    ),
    "JPEG, broken EXIF before a sound one": insert_segment(
        insert_segment(JPEG, 0xE1, b"Exif\0\0" + EXIF), 0xE1, b"Exif\0\0junk"
    ),
    "JPEG, EXIF without, XMP with": insert_segment(
        insert_segment(JPEG, 0xE1, b"Exif\0\0" + OTHER_EXIF), 0xE1, APP1_XMP + XMP
    ),
    "JPEG, EXIF that is invalid, XMP": insert_segment(
        insert_segment(JPEG, 0xE1, b"Exif\0\0" + BAD_EXIF), 0xE1, APP1_XMP + XMP
    ),
    "WebP, EXIF": extended_webp(riff_chunk(b"EXIF", EXIF)),
    "WebP, EXIF with a prefix": extended_webp(riff_chunk(b"EXIF", b"Exif\0\0" + EXIF)),
    "WebP, XMP": extended_webp(riff_chunk(b"XMP ", XMP)),
    "TIFF, tag": encode(corners(), "TIFF", exif=orientation_exif(6)),
    "TIFF, XMP": tiff(XMP),
    "TIFF, compressed, XMP": tiff(XMP, compression="tiff_lzw"),
    "GIF, XMP": gif_with_xmp(),
}


@pytest.mark.parametrize("name", SIDEWAYS)
def test_orientation_is_read_wherever_a_format_lets_it_stand(name: str) -> None:
    header, pixels = decoding.load(SIDEWAYS[name], 1, 400)
    assert header.warnings == (Warn.ROTATED,)
    assert pixels.shape == (64, 48, 3)
    assert_colours(pixels, BLUE, RED, GREY, GREY)


UPRIGHT = {
    "EXIF says upright, XMP sideways": insert_segment(
        insert_segment(JPEG, 0xE1, b"Exif\0\0" + UPRIGHT_EXIF), 0xE1, APP1_XMP + XMP
    ),
    "the same in a PNG": insert_chunk(
        insert_chunk(PNG, b"eXIf", UPRIGHT_EXIF), b"iTXt", ITXT + XMP
    ),
    "the tag of a TIFF says upright": tiff(XMP, orientation=1),
    "of another picture": insert_segment(JPEG, 0xE1, APP1_XMP + b'<a old:Orientation="6"/>'),
    "XMP out of range": insert_segment(JPEG, 0xE1, APP1_XMP + XMP.replace(b"6", b"9")),
    "a comment": insert_chunk(PNG, b"tEXt", b"Comment\0" + XMP),
    "no hexadecimal digits": insert_chunk(
        PNG, b"tEXt", b"Raw profile type exif\0\nexif\n 4\nxyz1\n"
    ),
    "half a byte": insert_chunk(PNG, b"tEXt", b"Raw profile type exif\0\nexif\n 4\n4d4\n"),
    "no stream": insert_chunk(PNG, b"zTXt", b"Raw profile type exif\0\0junk"),
    "nothing": insert_chunk(PNG, b"zTXt", b""),
}


@pytest.mark.parametrize("name", UPRIGHT)
def test_other_declarations_turn_nothing(name: str) -> None:
    header, pixels = decoding.load(UPRIGHT[name], 1, 400)
    assert header.warnings == ()
    assert_colours(pixels, RED, GREY, BLUE, GREY)


def test_the_first_valid_value_counts() -> None:
    other = exif_with_entry(ROTATED_BY_90.replace(b"\0\x06", b"\0\x03"))
    assert read_orientation(Metadata(exif=(OTHER_EXIF, BAD_EXIF, other, EXIF), xmp=(XMP,))) == 3
    assert read_orientation(Metadata(exif=(OTHER_EXIF,), xmp=(b"none", XMP))) == 6
    assert read_orientation(Metadata()) == 1


def test_a_compressed_text_is_read_up_to_a_limit() -> None:
    """A text of megabytes, to which some kilobytes expand, is ignored."""
    text = raw_profile(b"exif", EXIF + bytes(2**22))
    data = insert_chunk(PNG, b"zTXt", ztxt(b"Raw profile type exif", text))
    assert decoding.load(data, 1, 400)[0].warnings == ()


def test_pixels_are_not_turned_twice_by_opencv_or_pillow() -> None:
    for data in (SIDEWAYS["PNG, eXIf"], SIDEWAYS["JPEG, EXIF"], SIDEWAYS["WebP, XMP"]):
        header = decoding.check_header(data, 1)
        assert header.orientation == 6
        assert np.array_equal(decoding.decode_upright(header, data), decoding.load(data, 1, 400)[1])


@pytest.mark.parametrize(
    "text",
    [b"1 " * 2_000_000, b"\nexif\n 4\n" + b"1 1 " * 900_000 + b"!", b"tiff:Orientation " * 200_000],
)
def test_hostile_texts_take_no_time(text: bytes) -> None:
    data = insert_chunk(PNG, b"zTXt", ztxt(b"Raw profile type exif", text))
    data = insert_chunk(data, b"iTXt", ITXT + text)
    start = time.process_time()
    assert decoding.load(data, 1, 400)[0].warnings == ()
    assert time.process_time() - start < 10  # a quadratic search takes hours
