"""The segments of a JPEG."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.images.formats.metadata import Metadata

START, END = b"\xff\xd8", b"\xff\xd9"  # of an image
MARKER = re.compile(rb"\xff([\x01-\xfe])")
# Frame headers: all, those that are read (neither lossless nor hierarchical), and JPEG-LS.
SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
READ_SOF = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
JPEG_LS = 0xF7
DHT, SOS, DQT, APP0, APP1, APP2, APP13, APP14 = 0xC4, 0xDA, 0xDB, 0xE0, 0xE1, 0xE2, 0xED, 0xEE
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA)}
JFIF, EXIF, ICC, ADOBE = b"JFIF\0", b"Exif\0\0", b"ICC_PROFILE\0", b"Adobe"
XMP = b"http://ns.adobe.com/xap/1.0/\0"
MAX_SEGMENTS = 10_000


@dataclass(frozen=True)
class Segment:
    """A marker segment; `data[start:end]` includes the marker."""

    marker: int
    body: bytes
    start: int
    end: int


@dataclass(frozen=True)
class Frame:
    """The frame header."""

    marker: int
    bits: int
    """Per sample."""
    components: int


def segments(data: bytes, all_scans: bool = False) -> Iterator[Segment]:
    """Yield the segments up to the first scan header, or up to the end of the image."""
    position = len(START)
    for _ in range(MAX_SEGMENTS):
        match = MARKER.search(data, position)
        if match is None or match[1] == END[1:]:
            return
        marker, start = match[1][0], match.start()
        position = match.end()
        if marker in WITHOUT_LENGTH:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if length < 2 or position + length > len(data):
            return
        body = data[position + 2 : position + length]
        position += length
        yield Segment(marker, body, start, position)
        if marker == SOS and not all_scans:
            return


def read_frame(data: bytes) -> Frame | None:
    """The first frame header; None if it is missing or cut off."""
    for segment in segments(data):
        if segment.marker in SOF | {JPEG_LS} and len(segment.body) >= 6:
            return Frame(segment.marker, segment.body[0], segment.body[5])
    return None


def is_supported(frame: Frame) -> bool:
    """Whether this kind of JPEG is read: 8 bits, one, three or four components."""
    return frame.marker in READ_SOF and frame.bits == 8 and frame.components in {1, 3, 4}


def read_metadata(data: bytes) -> Metadata:
    """EXIF and XMP of all segments that have any, and the colour profile if it is whole."""
    all_segments = list(segments(data))
    app1 = [segment.body for segment in all_segments if segment.marker == APP1]
    pieces = sorted(segment.body[len(ICC) :] for segment in all_segments if is_profile(segment))
    profile = b"".join(piece[2:] for piece in pieces) if has_whole_profile(all_segments) else b""
    return Metadata(
        exif=tuple(body for body in app1 if body.startswith(EXIF)),
        xmp=tuple(body.removeprefix(XMP) for body in app1 if body.startswith(XMP)),
        profiles=(profile,) if profile else (),
    )


def is_profile(segment: Segment) -> bool:
    """Whether it is a piece of a colour profile."""
    return segment.marker == APP2 and segment.body.startswith(ICC)


def has_whole_profile(all_segments: Sequence[Segment]) -> bool:
    """Whether the pieces of the colour profile are numbered 1 to their count, and not empty."""
    pieces = [segment.body[len(ICC) :] for segment in all_segments if is_profile(segment)]
    numbers = sorted(tuple(piece[:2]) for piece in pieces)
    expected = [(number, len(pieces)) for number in range(1, len(pieces) + 1)]
    return numbers == expected and all(len(piece) > 2 for piece in pieces)
