"""The blocks of a GIF."""

from collections.abc import Iterator

from pipeline.images.formats.metadata import Metadata

HEADER_BYTES = 13  # signature and screen descriptor
DESCRIPTOR_BYTES = 9  # of an image, after its introducer
EXTENSION, IMAGE, TRAILER = 0x21, 0x2C, 0x3B
APPLICATION = 0xFF  # the label of an extension
XMP, PROFILE = b"XMP DataXMP", b"ICCRGBG1012"
XMP_TRAILER_BYTES = 257  # a magic trailer, by which readers of sub-blocks skip a packet
MAX_BLOCKS = 2**20


def read_metadata(data: bytes) -> Metadata:
    """XMP and colour profile are in application extensions."""
    xmp, profiles = [], []
    for kind, start, end in _blocks(data):
        name = data[start + 3 : start + 14]
        if kind == EXTENSION and data[start + 1] == APPLICATION:
            if name == XMP:
                xmp.append(data[start + 14 : max(start + 14, end - XMP_TRAILER_BYTES)])
            elif name == PROFILE:
                profiles.append(_joined(data, start + 14, end))
    return Metadata(xmp=tuple(xmp), profiles=tuple(profiles))


def is_whole(data: bytes) -> bool:
    """Whether all blocks up to the trailer are there."""
    return any(kind == TRAILER for kind, _, _ in _blocks(data))


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


def _joined(data: bytes, start: int, end: int) -> bytes:
    """The contents of sub-blocks."""
    parts = []
    while start < end:
        parts.append(data[start + 1 : start + 1 + data[start]])
        start += 1 + data[start]
    return b"".join(parts)
