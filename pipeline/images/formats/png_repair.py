"""A PNG whose end is missing or damaged although all its pixels are there."""

import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence

from pipeline.images.formats.png import PngChunk, chunks, is_sound

HEADER = struct.Struct(">IIBBBBB")  # width, height, depth, colours, compression, filter, interlace
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by kind of colours
WHOLE = ((0, 0, 1, 1),)
# Adam7's passes: first column and row, steps between columns and between rows.
INTERLACED = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
PIECE_BYTES = 2**20
ZLIB_HEADER_BYTES, CHECKSUM_BYTES = 2, 4


def complete(data: bytes) -> bytes | None:
    """The PNG with a proper end, if all up to its pixels is sound, and no pixel missing.

    What follows the pixels cannot change them: of that, whole chunks stay. None if something is
    missing or damaged, or if nothing would change.
    """
    all_chunks = list(chunks(data))
    places = [place for place, chunk in enumerate(all_chunks) if chunk.kind == b"IDAT"]
    if not places or all_chunks[0].kind != b"IHDR":
        return None
    first, last = places[0], _last_of_run(places)
    if not all(_is_whole(data, chunk) for chunk in all_chunks[:last]):
        return None
    if not _may_be_cut(data, all_chunks[last]):
        return None
    pixels = _complete_stream(
        all_chunks[0].body, b"".join(c.body for c in all_chunks[first : last + 1])
    )
    if pixels is None:
        return None
    after = (chunk for chunk in all_chunks[last + 1 :] if _is_metadata(data, chunk))
    repaired = b"".join(
        (
            data[: all_chunks[first].start],
            _chunk(b"IDAT", pixels),
            *(data[chunk.start : chunk.end] for chunk in after),
            _chunk(b"IEND", b""),
        )
    )
    return repaired if repaired != data else None


def _last_of_run(places: Sequence[int]) -> int:
    """The last of the numbers that follow each other without a gap."""
    return next(
        (place for place, after in itertools.pairwise(places) if after != place + 1),
        places[-1],
    )


def _is_whole(data: bytes, chunk: PngChunk) -> bool:
    return chunk.end <= len(data) and is_sound(data[chunk.start : chunk.end])


def _is_metadata(data: bytes, chunk: PngChunk) -> bool:
    """Whether it is a whole chunk that no decoder needs."""
    return chunk.kind[:1].islower() and _is_whole(data, chunk)


def _may_be_cut(data: bytes, chunk: PngChunk) -> bool:
    """Whether a chunk is sound, or cut off at the end of the file, as far as that can be told."""
    if chunk.end <= len(data):
        return is_sound(data[chunk.start : chunk.end])
    checked = data[chunk.start + 4 : chunk.end - CHECKSUM_BYTES]
    checksum = zlib.crc32(checked).to_bytes(CHECKSUM_BYTES, "big")
    return checksum.startswith(data[chunk.end - CHECKSUM_BYTES :])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _complete_stream(header: bytes, stream: bytes) -> bytes | None:
    """The compressed pixels with a proper end; None if one is missing, or a checksum is wrong."""
    size = _count_bytes(header)
    is_zlib = len(stream) > ZLIB_HEADER_BYTES and int.from_bytes(stream[:2], "big") % 31 == 0
    if size is None or not is_zlib:
        return None
    inflater, count, checksum = zlib.decompressobj(-zlib.MAX_WBITS), 0, zlib.adler32(b"")
    try:
        for piece in _inflate(inflater, stream):
            count, checksum = count + len(piece), zlib.adler32(piece, checksum)
            if count > size:
                return None
    except zlib.error:
        return None
    rest, end = inflater.unused_data, checksum.to_bytes(CHECKSUM_BYTES, "big")
    may_be_zeros = not rest and stream.endswith(b"\0")  # instead of lost data
    if count != size or may_be_zeros or not end.startswith(rest[:CHECKSUM_BYTES]):
        return None
    if inflater.eof:
        return stream[: len(stream) - len(rest)] + end
    return _compress(_inflate(zlib.decompressobj(-zlib.MAX_WBITS), stream))


def _inflate(inflater: "zlib._Decompress", stream: bytes) -> Iterator[bytes]:
    data = stream[ZLIB_HEADER_BYTES:]
    while piece := inflater.decompress(data, PIECE_BYTES):
        yield piece
        data = inflater.unconsumed_tail


def _compress(pieces: Iterator[bytes]) -> bytes:
    deflater = zlib.compressobj()
    return b"".join((*map(deflater.compress, pieces), deflater.flush()))


def _count_bytes(header: bytes) -> int | None:
    """How many bytes the pixels need before compression; None if the header is not valid."""
    if len(header) != HEADER.size:
        return None
    width, height, depth, colours, _, _, interlace = HEADER.unpack(header)
    if colours not in CHANNELS or depth not in {1, 2, 4, 8, 16} or interlace > 1:
        return None
    total = 0
    for x, y, step_x, step_y in INTERLACED if interlace else WHOLE:
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        if columns > 0 and rows > 0:  # each row begins with the number of its filter
            total += rows * (1 + (columns * depth * CHANNELS[colours] + 7) // 8)
    return total
