"""The blocks of a GIF."""

import math
import struct
from collections.abc import Iterator

from pipeline.images.formats.metadata import Metadata

HEADER_BYTES = 13  # signature and screen descriptor
DESCRIPTOR_BYTES = 9  # of an image, after its introducer
EXTENSION, IMAGE, TRAILER = 0x21, 0x2C, 0x3B
APPLICATION = 0xFF  # the label of an extension
XMP, PROFILE = b"XMP DataXMP", b"ICCRGBG1012"
XMP_TRAILER_BYTES = 257  # a magic trailer, by which readers of sub-blocks skip a packet
MAX_BLOCKS = 2**20
MAX_CODE_BITS = 12
MAX_CODES = 2**MAX_CODE_BITS


def read_metadata(data: bytes) -> Metadata:
    """XMP and colour profile are in application extensions."""
    xmp, profiles = [], []
    for kind, start, end in _blocks(data):
        name = data[start + 3 : start + 14]
        if kind == EXTENSION and data[start + 1] == APPLICATION:
            if name == XMP:
                xmp.append(data[start + 14 : max(start + 14, end - XMP_TRAILER_BYTES)])
            elif name == PROFILE:
                profiles.append(_sub_block_contents(data, start + 14, end))
    return Metadata(xmp=tuple(xmp), profiles=tuple(profiles))


def has_usual_palette(data: bytes) -> bool:
    """Whether there is a global palette that has the background colour, as OpenCV demands."""
    flags, background = data[10], data[11]
    return background < _table_bytes(flags) // 3


def is_whole(data: bytes) -> bool:
    """Whether all blocks are there, and the codes of the first image give all its pixels."""
    blocks = list(_blocks(data))
    if not blocks or blocks[-1][0] != TRAILER:
        return False
    start, end = next(((start, end) for kind, start, end in blocks if kind == IMAGE), (0, 0))
    flags = data[start + DESCRIPTOR_BYTES]
    pixels: int = math.prod(struct.unpack_from("<HH", data, start + 5))
    codes = start + 1 + DESCRIPTOR_BYTES + _table_bytes(flags)
    return _count_pixels(_sub_block_contents(data, codes + 1, end), data[codes]) == pixels


def _count_pixels(data: bytes, bits: int) -> int:
    """How many pixels LZW codes stand for; -1 if one of them does not exist.

    Args:
        bits: Of a pixel.
    """
    clear = 1 << bits
    lengths, size, previous = [1] * clear + [0, 0], bits + 1, 0  # of the strings of each code
    pixels = buffer = count = 0
    for byte in data:
        buffer, count = buffer | byte << count, count + 8
        while count >= size:
            code, buffer, count = buffer & (1 << size) - 1, buffer >> size, count - size
            if code == clear + 1:
                return pixels
            if code == clear:
                lengths, size, previous = lengths[: clear + 2], bits + 1, 0
                continue
            if previous and len(lengths) < MAX_CODES:
                lengths.append(previous + 1)
            if code >= len(lengths):
                return -1
            previous = lengths[code]
            pixels += previous
            if len(lengths) == 1 << size and size < MAX_CODE_BITS:
                size += 1
    return pixels


def _blocks(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield kind, start and end of each block, as far as they are whole."""
    if len(data) < HEADER_BYTES:
        return
    start = HEADER_BYTES + _table_bytes(data[10])
    for _ in range(MAX_BLOCKS):
        kind = data[start] if start < len(data) else 0
        if kind == TRAILER:
            yield kind, start, start + 1
            return
        if kind == EXTENSION:
            end = _after_sub_blocks(data, start + 2)
        elif kind == IMAGE and start + DESCRIPTOR_BYTES < len(data):
            table = _table_bytes(data[start + DESCRIPTOR_BYTES])
            end = _after_sub_blocks(data, start + 1 + DESCRIPTOR_BYTES + table + 1)
        else:
            return
        if end is None:
            return
        yield kind, start, end
        start = end


def _table_bytes(flags: int) -> int:
    """The length of the colour table that flags declare."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _after_sub_blocks(data: bytes, start: int) -> int | None:
    while start < len(data):
        if data[start] == 0:
            return start + 1
        start += 1 + data[start]
    return None


def _sub_block_contents(data: bytes, start: int, end: int) -> bytes:
    """The contents of sub-blocks."""
    parts = []
    while start < end:
        parts.append(data[start + 1 : start + 1 + data[start]])
        start += 1 + data[start]
    return b"".join(parts)
