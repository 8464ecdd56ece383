"""The chunks of a WebP."""

import struct
from collections.abc import Iterator

from pipeline.images.formats.metadata import Metadata

HEADER_BYTES = 12  # RIFF, size, WEBP
FRAME_HEADER_BYTES = 16  # of an ANMF chunk, before its own chunks
MAX_CHUNKS = 100_000
PICTURES = {b"VP8 ", b"VP8L", b"ANMF"}
KINDS = PICTURES | {b"VP8X", b"ALPH", b"ANIM", b"ICCP", b"EXIF", b"XMP "}


def chunks(data: bytes, start: int = HEADER_BYTES) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and body of each chunk that is whole."""
    for _ in range(MAX_CHUNKS):
        length = int.from_bytes(data[start + 4 : start + 8], "little")
        end = start + 8 + length
        if start + 8 > len(data) or end > len(data):
            return
        yield data[start : start + 4], data[start + 8 : end]
        start = end + length % 2  # chunks are padded to an even length


def is_lossless(data: bytes) -> bool:
    """Whether the picture, or the first frame, is losslessly compressed, in any container."""
    for kind, body in chunks(data):
        if kind in {b"VP8L", b"VP8 "}:
            return kind == b"VP8L"
        if kind == b"ANMF":
            return any(inner == b"VP8L" for inner, _ in chunks(body, FRAME_HEADER_BYTES))
    return False


def complete(data: bytes) -> bytes | None:
    """The WebP with the length and padding that its whole chunks have.

    None if its picture, or first frame, is not whole, or if nothing would change. Decoders refuse
    a file whose header has another length; that of a chunk tells whether the picture is whole.
    """
    whole = [(kind, body) for kind, body in chunks(data) if kind in KINDS]
    if not any(kind in PICTURES for kind, _ in whole):
        return None
    contents = b"".join(
        kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2) for kind, body in whole
    )
    repaired = b"RIFF" + struct.pack("<I", 4 + len(contents)) + b"WEBP" + contents
    return repaired if repaired != data else None


def read_metadata(data: bytes) -> Metadata:
    """EXIF, XMP and colour profile stand after or before the picture."""
    bodies: dict[bytes, bytes] = {}
    for kind, body in chunks(data):
        bodies.setdefault(kind, body)
    kinds = (b"EXIF", b"XMP ", b"ICCP")
    return Metadata(*(tuple(bodies[kind] for kind in (name,) if name in bodies) for name in kinds))
