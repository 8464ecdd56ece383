"""Repair of faults for which a strict decoder refuses a JPEG although its picture is whole."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.images.formats.jpeg import (
    ADOBE,
    APP0,
    APP13,
    APP14,
    DHT,
    DQT,
    END,
    JFIF,
    SOF,
    SOS,
    START,
    Segment,
    has_whole_profile,
    is_profile,
    read_frame,
    segments,
)

JFIF_VERSIONS = (b"\1",)  # major ones
JFIF_BYTES = 14  # of a complete JFIF segment
ADOBE_BYTES = 12  # of a complete Adobe segment; its last byte is the colour transform
COLOUR_TRANSFORMS = {3: (0, 1), 4: (0, 2)}  # by number of components; the second is the usual one
SEQUENTIAL = {0xC0, 0xC1}  # with Huffman codes
PROGRESSIVE_HUFFMAN = 0xC2
PROGRESSIVE = {PROGRESSIVE_HUFFMAN, 0xCA}
SCAN_HEADER_BYTES = {6, 8, 10, 12}  # for one to four components
GREY = b"\1"  # component
MAX_JUNK_BYTES = 64  # between two segments
# Equal bytes before a marker: any one, or one that is not a restart marker.
FILLERS = (
    re.compile(rb"(.)\1{2,}(?=\xff[\xc0-\xfe])", re.DOTALL),
    re.compile(rb"(.)\1{2,}(?=\xff[\xc0-\xcf\xd8-\xfe])", re.DOTALL),
)
MAX_KEPT = 3  # of such bytes: what libjpeg reads ahead


@dataclass(frozen=True)
class MendedJpeg:
    """A JPEG with the same picture, without the faults."""

    data: bytes
    has_lost_bytes: bool
    """Whether bytes that belonged to no part of the file were removed."""
    lacked_end: bool
    """Whether it had no end marker."""


def repairs(data: bytes) -> Iterator[MendedJpeg]:
    """Yield repairs of harmless faults for which decoders refuse a file; none if it has none.

    These are an unknown JFIF version, an incomplete colour profile, an unknown Adobe colour
    transform (libjpeg takes it as the usual one), segments of Adobe that Pillow cannot read, bytes
    between segments, which a wrong length leaves, filler before later markers, and a missing end
    marker. There may be several, because the picture's own data may end in bytes like those of the
    filler. No warning is ignored: a repair has to pass a strict decoder.
    """
    all_segments = list(segments(data))
    if not all_segments:
        return
    header, scans = data[: all_segments[-1].end], data[all_segments[-1].end :]
    mended_header = b"".join(_mended_segments(data, all_segments))
    drops_junk = _has_all_segments(all_segments) and any(map(_is_junk, _gaps(data, all_segments)))
    if END not in scans:
        if _may_be_complete(data, scans):
            yield MendedJpeg(
                mended_header + scans.removesuffix(END[:1]) + END, drops_junk, lacked_end=True
            )
        return
    ways = itertools.product(FILLERS, range(MAX_KEPT + 1))
    for mended_scans in dict.fromkeys(_without_filler(scans, *way) for way in ways):
        mended, loses = mended_header + mended_scans, mended_scans != scans
        if mended != header + scans and not (loses and not _has_all_scans(mended)):
            yield MendedJpeg(mended, drops_junk or loses, lacked_end=False)


def _may_be_complete(data: bytes, scans: bytes) -> bool:
    """Whether nothing but an end marker may be missing, which a strict decoder has to confirm.

    It cannot where zeros may replace lost data, or with arithmetic coding, of which decoders take
    lost data for zeros.
    """
    frame = read_frame(data)
    is_checked = frame is not None and frame.marker in SEQUENTIAL | {PROGRESSIVE_HUFFMAN}
    ends_in_zeros = scans.endswith(b"\0") and not scans.endswith(b"\xff\0")
    return is_checked and not ends_in_zeros and _has_all_scans(data)


def _mended_segments(data: bytes, all_segments: Sequence[Segment]) -> Iterator[bytes]:
    """What stands before the first scan, in pieces."""
    frame = read_frame(data)
    components = frame.components if frame else 0
    drops_profile, drops_junk = not has_whole_profile(all_segments), _has_all_segments(all_segments)
    yield START
    for segment, gap in zip(all_segments, _gaps(data, all_segments), strict=True):
        if not (drops_junk and _is_junk(gap)):
            yield gap
        if not (drops_profile and is_profile(segment)) and not _is_ignored(segment):
            yield _with_known_values(segment, data[segment.start : segment.end], components)


def _gaps(data: bytes, all_segments: Sequence[Segment]) -> Iterator[bytes]:
    """The bytes before each segment that belong to none."""
    position = len(START)
    for segment in all_segments:
        yield data[position : segment.start]
        position = segment.end


def _is_ignored(segment: Segment) -> bool:
    """Whether libjpeg skips it, but Pillow may fail: Photoshop's, or a JFIF or Adobe cut off."""
    body = segment.body
    return (
        segment.marker == APP13
        or (segment.marker == APP0 and body.startswith(JFIF) and len(body) < JFIF_BYTES)
        or (segment.marker == APP14 and body.startswith(ADOBE) and len(body) < ADOBE_BYTES)
    )


def _is_junk(gap: bytes) -> bool:
    """Whether bytes between segments can be no lost segment; zeros are a hole in the file."""
    return len(gap) <= MAX_JUNK_BYTES and any(gap)


def _with_known_values(segment: Segment, whole: bytes, components: int) -> bytes:
    """The segment with a known JFIF version, or a known colour transform."""
    body, marker_bytes = segment.body, len(whole) - len(segment.body)
    if segment.marker == APP0 and body.startswith(JFIF) and body[5:6] not in JFIF_VERSIONS:
        version = marker_bytes + len(JFIF)
        return whole[:version] + b"\1\1" + whole[version + 2 :]
    is_adobe = segment.marker == APP14 and body.startswith(ADOBE) and len(body) >= ADOBE_BYTES
    transforms = COLOUR_TRANSFORMS.get(components)
    if is_adobe and transforms and body[ADOBE_BYTES - 1] not in transforms:
        transform = marker_bytes + ADOBE_BYTES - 1
        return whole[:transform] + bytes([transforms[1]]) + whole[transform + 1 :]
    return whole


def _has_all_segments(all_segments: Sequence[Segment]) -> bool:
    """Whether none is missing that decides the pixels: their tables and their colour space."""
    bodies: dict[int, list[bytes]] = {}
    for segment in all_segments:
        bodies.setdefault(segment.marker, []).append(segment.body)
    frame = next((segment for segment in all_segments if segment.marker in SOF), None)
    if frame is None or SOS not in bodies:
        return False
    adobe = [body for body in bodies.get(APP14, []) if body.startswith(ADOBE)]
    is_jfif = any(body.startswith(JFIF) for body in bodies.get(APP0, []))
    return (
        (frame.body[5:6] == GREY or is_jfif or bool(adobe))
        and all(len(body) >= ADOBE_BYTES for body in adobe)
        and {*frame.body[8::3]} <= set(_quantization_tables(bodies.get(DQT, [])))
        and set(_used_codes(frame.marker, bodies[SOS][0]))
        <= set(_huffman_tables(bodies.get(DHT, [])))
    )


def _has_all_scans(data: bytes) -> bool:
    """Whether all coefficients of all components have all bits; a hole may hide a scan."""
    frame = next((segment for segment in segments(data) if segment.marker in SOF), None)
    if frame is None:
        return True
    is_progressive = frame.marker in PROGRESSIVE
    missing_bits = {(component, k): 1 for component in frame.body[6::3] for k in range(64)}
    for scan in segments(data, all_scans=True):
        if scan.marker == SOS and len(scan.body) in SCAN_HEADER_BYTES:
            first, last, bits = scan.body[-3:] if is_progressive else (0, 63, 0)
            for component in scan.body[1:-3:2]:
                for k in range(first, last + 1):
                    missing_bits[component, k] = bits & 0xF
    return not any(missing_bits.values())


def _used_codes(sof: int, scan: bytes) -> Iterator[int]:
    """The Huffman tables of a scan, numbered as in their segments: AC tables from 16 on."""
    for codes in scan[2:-3:2]:
        yield codes >> 4
        if sof in SEQUENTIAL:  # in others the first scan has no AC coefficients
            yield 0x10 | codes & 0xF


def _quantization_tables(bodies: Sequence[bytes]) -> Iterator[int]:
    for body in bodies:
        place = 0
        while place < len(body):
            yield body[place] & 0xF
            place += 129 if body[place] >> 4 else 65  # values of 16 or 8 bits


def _huffman_tables(bodies: Sequence[bytes]) -> Iterator[int]:
    for body in bodies:
        place = 0
        while place < len(body):
            yield body[place]
            place += 17 + sum(body[place + 1 : place + 17])


def _without_filler(scans: bytes, filler: re.Pattern[bytes], most: int) -> bytes:
    """Entropy-coded data with at most `most` bytes of the runs of equal ones before markers."""
    end = scans.find(END)
    if end < 0:
        return scans
    shorter = filler.sub(partial(_beginning, most=most), scans[: end + len(END)])
    return shorter + scans[end + len(END) :]


def _beginning(match: re.Match[bytes], most: int) -> bytes:
    """At most `most` bytes of a run, besides the zero byte that follows each 0xff in the data."""
    is_stuffed = match[1] == b"\0" and match.string[match.start() - 1 : match.start()] == b"\xff"
    return match[0][: most + is_stuffed]
