"""The header of a BMP."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.images.formats.metadata import Metadata

FILE_HEADER_BYTES = 14
HEADER_BYTES = {12, 16, 40, 52, 56, 64, 108, 124}  # of all versions
LONG_HEADER_BYTES = 40
BITS = {1, 2, 4, 8, 16, 24, 32}  # per pixel
RAW = {0, 3, 6}  # compressions
RLE8, RLE4 = 1, 2
END_OF_ROW, END_OF_BITMAP, DELTA = 0, 1, 2  # codes after a zero
OTHER_FORMATS = {4, 5}  # a JPEG or PNG inside, for printers
PROFILE_VERSION = 124  # the header that can refer to a colour profile


@dataclass(frozen=True)
class BmpHeader:
    """What a BMP says about its pixels."""

    offset: int
    """Where they start."""
    width: int
    height: int
    compression: int
    is_whole: bool
    """Whether the values are valid, and the file has as many bytes as they need."""


def read_bmp_header(data: bytes) -> BmpHeader | None:
    """The header; None if it is cut off or of no known version."""
    if len(data) < FILE_HEADER_BYTES + 12:
        return None
    offset, size = struct.unpack_from("<II", data, 10)
    if size not in HEADER_BYTES or len(data) < FILE_HEADER_BYTES + size:
        return None
    compression = colours = 0
    width, height, _, bits = struct.unpack_from("<HHHH" if size == 12 else "<iiHH", data, 18)
    if size >= LONG_HEADER_BYTES:
        compression, *_, colours, _ = struct.unpack_from("<6I", data, 30)
    row_bytes = (width * bits + 31) // 32 * 4
    pixel_bytes = row_bytes * abs(height) if compression in RAW else 1
    is_whole = (
        width > 0
        and height != 0
        and (bits in BITS or compression in OTHER_FORMATS)
        and offset + pixel_bytes <= len(data)
        and FILE_HEADER_BYTES + size + 4 * colours <= len(data)
    )
    return BmpHeader(offset, width, abs(height), compression, is_whole)


def has_certain_pixels(data: bytes) -> bool:
    """Whether all decoders that follow the format see the same pixels.

    Not so if run lengths leave pixels out, or end a row early or far behind its end.
    """
    header = read_bmp_header(data)
    if header is None or header.compression not in {RLE8, RLE4}:
        return header is not None
    return header.offset % 2 == 0 and list(_row_lengths(data, header)) == [True] * header.height


def _row_lengths(data: bytes, header: BmpHeader) -> Iterator[bool]:
    """Whether each row has all its pixels, and at most padding to a multiple of four after them."""
    place, x = header.offset, 0
    padded = range(header.width, header.width + 4)
    while place + 2 <= len(data):
        count, code = data[place], data[place + 1]
        place += 2
        if count:
            x += count
        elif code in {END_OF_ROW, END_OF_BITMAP}:
            if x or code == END_OF_ROW:
                yield x in padded
            if code == END_OF_BITMAP:
                return
            x = 0
        else:  # as many single pixels, padded to an even number of bytes
            x += code
            size = code if header.compression == RLE8 else (code + 1) // 2
            place += size + size % 2
            if code == DELTA or x > header.width:
                yield False
    yield False


def read_metadata(data: bytes) -> Metadata:
    """A header of version 5 may refer to a colour profile in the file."""
    header_bytes = data[FILE_HEADER_BYTES : FILE_HEADER_BYTES + PROFILE_VERSION]
    if len(header_bytes) < PROFILE_VERSION or header_bytes[:4] != struct.pack(
        "<I", PROFILE_VERSION
    ):
        return Metadata()
    if header_bytes[56:60] != b"DEBM":  # MBED, an embedded profile, in little-endian order
        return Metadata()
    start, length = struct.unpack_from("<II", header_bytes, 112)
    start += FILE_HEADER_BYTES
    return Metadata(profiles=(data[start : start + length],))
