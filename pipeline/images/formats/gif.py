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
MAX_SUB_BLOCK_BYTES = 255
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
    return _count_pixels(_sub_block_contents(data, codes + 1, end), data[codes])[0] == pixels


def complete(data: bytes) -> bytes | None:
    """The GIF with a proper end, if the first image has all its pixels.

    Of what follows that image, whole blocks stay. None if pixels are missing, or if nothing would
    change.
    """
    if len(data) < HEADER_BYTES:
        return None
    blocks = list(_blocks(data))
    images = [start for kind, start, _ in blocks if kind == IMAGE]
    end = blocks[-1][2] if blocks else HEADER_BYTES + _table_bytes(data[10])
    start = images[0] if images else end
    codes = start + 1 + DESCRIPTOR_BYTES
    if codes > len(data) or data[start] != IMAGE:
        return None
    codes += _table_bytes(data[codes - 1])
    contents = _sub_block_contents(data, codes + 1, len(data))
    pixels: int = math.prod(struct.unpack_from("<HH", data, start + 5))
    count, has_end = _count_pixels(contents, data[codes]) if contents else (0, False)
    may_be_zeros = not has_end and contents.endswith(b"\0")  # instead of lost data
    if count != pixels or may_be_zeros:
        return None
    whole = data[:end] if images else data[: codes + 1] + _sub_blocks(contents)
    repaired = whole.removesuffix(bytes([TRAILER])) + bytes([TRAILER])
    return repaired if repaired != data else None


def _count_pixels(data: bytes, bits: int) -> tuple[int, bool]:
    """How many pixels LZW codes stand for, and whether the code that ends them is there.

    The number is -1 if one of the codes does not exist.

    Args:
        bits: Of a pixel.
    """
    if bits >= MAX_CODE_BITS:
        return -1, False
    clear = 1 << bits
    lengths, size, previous = [1] * clear + [0, 0], bits + 1, 0  # of the strings of each code
    pixels = buffer = count = 0
    for byte in data:
        buffer, count = buffer | byte << count, count + 8
        while count >= size:
            code, buffer, count = buffer & (1 << size) - 1, buffer >> size, count - size
            if code == clear + 1:
                return pixels, True
            if code == clear:
                lengths, size, previous = lengths[: clear + 2], bits + 1, 0
                continue
            if previous and len(lengths) < MAX_CODES:
                lengths.append(previous + 1)
            if code >= len(lengths):
                return -1, False
            previous = lengths[code]
            pixels += previous
            if len(lengths) == 1 << size and size < MAX_CODE_BITS:
                size += 1
    return pixels, False


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
    """The contents of sub-blocks, up to the empty one that ends them."""
    parts = []
    while start < end and data[start]:
        parts.append(data[start + 1 : start + 1 + data[start]])
        start += 1 + data[start]
    return b"".join(parts)


def _sub_blocks(contents: bytes) -> bytes:
    """The sub-blocks with these contents, and the empty one that ends them."""
    starts = range(0, len(contents), MAX_SUB_BLOCK_BYTES)
    parts = (contents[start : start + MAX_SUB_BLOCK_BYTES] for start in starts)
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
