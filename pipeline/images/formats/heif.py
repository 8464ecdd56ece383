"""The boxes of HEIF files: HEIC, of most phones, and AVIF (ISO/IEC 14496-12 and 23008-12)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.images.formats.metadata import Metadata
from pipeline.images.formats.png import HDR_TRANSFERS, PRIMARIES, TRANSFERS
from pipeline.images.matrix_profile import SRGB_CURVE, rgb_profile

MAX_BOXES = 4096  # of a parent
MAX_ITEMS = 4096
GAMMAS = {4, 5, 8}  # transfers with curves of their own; sRGB's stands for the others
ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
PICTURES = {b"hvc1", b"av01", b"grid", b"iden", b"iovl"}  # kinds of items that are decoded
PROFILES = (b"prof", b"rICC")  # kinds of colours
MAX_EIGHT_BITS = 8


@dataclass(frozen=True)
class Box:
    """A box: its kind and where its body is."""

    kind: bytes
    start: int
    end: int


@dataclass(frozen=True)
class HeifPicture:
    """What a file says about its main picture."""

    width: int
    height: int
    """In pixels, before it is turned."""
    is_turned: bool
    """Whether it is to be turned or mirrored, which EXIF only repeats."""
    is_deep: bool
    """More than 8 bits per channel."""
    has_alpha: bool
    has_others: bool
    """Whether there are other pictures that are not parts of this one, or an animation."""
    is_supported: bool
    """Its kind is read, and it is not of high dynamic range."""
    profiles: tuple[bytes, ...]
    """ICC profiles."""


def read_metadata(data: bytes) -> Metadata:
    """The colour profile alone: the orientation in EXIF and XMP only repeats that of the boxes."""
    picture = read_picture(data)
    return Metadata(profiles=picture.profiles if picture else ())


def read_picture(data: bytes) -> HeifPicture | None:
    """The main picture; None if its description is not whole."""
    try:
        return _read_picture(data)
    except (struct.error, IndexError, KeyError, StopIteration):
        return None


def is_animation(data: bytes) -> bool:
    """Whether there is a film."""
    return any(box.kind == b"moov" for box in boxes(data, 0, len(data)))


def boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two places, as far as their headers are whole."""
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        length, body = int.from_bytes(data[start : start + 4]), start + 8
        if length == 1:
            length, body = int.from_bytes(data[body : body + 8]), body + 8
        stop = end if length == 0 else start + length
        if stop < body:
            return
        yield Box(data[start + 4 : start + 8], body, min(stop, end))
        start = stop


def _read_picture(data: bytes) -> HeifPicture:
    meta = next(box for box in boxes(data, 0, len(data)) if box.kind == b"meta")
    inside = {box.kind: box for box in boxes(data, meta.start + 4, meta.end)}
    kinds = _item_kinds(data, inside[b"iinf"])
    primary = _primary(data, inside[b"pitm"])
    references = _references(data, inside[b"iref"]) if b"iref" in inside else []
    properties = _properties(data, inside[b"iprp"])
    own = properties[primary]
    width, height = struct.unpack_from(">II", data, _first(own, b"ispe").start + 4)
    parts = {target for kind, _, targets in references if kind == b"dimg" for target in targets}
    tiles = next(
        (targets for kind, item, targets in references if (kind, item) == (b"dimg", primary)), ()
    )
    hidden = parts | {item for kind, item, _ in references if kind in {b"auxl", b"thmb"}}
    others = {item for item, kind in kinds.items() if kind in PICTURES} - hidden - {primary}
    auxiliary = [item for kind, item, to in references if kind == b"auxl" and primary in to]
    colours = [box for box in own if box.kind == b"colr"]
    return HeifPicture(
        width,
        height,
        any(_turns(data, box) for box in own),
        any(
            _depth(data, box) > MAX_EIGHT_BITS
            for item in (primary, *tiles)
            for box in properties[item]
        ),
        any(_is_alpha(data, box) for item in auxiliary for box in properties[item]),
        bool(others) or is_animation(data),
        {kinds[item] for item in (primary, *tiles)} <= PICTURES
        and not any(_is_hdr(data, box) for box in colours),
        (*_icc_profiles(data, colours), *_coded_profiles(data, colours)),
    )


def _icc_profiles(data: bytes, colours: list[Box]) -> Iterator[bytes]:
    for box in colours:
        if data[box.start : box.start + 4] in PROFILES:
            yield data[box.start + 4 : box.end]


def _coded_profiles(data: bytes, colours: list[Box]) -> Iterator[bytes]:
    """The profiles of colours that are given as numbers (ITU-T H.273)."""
    for box in colours:
        if data[box.start : box.start + 4] == b"nclx":
            primaries, transfer = struct.unpack_from(">HH", data, box.start + 4)
            curve = TRANSFERS[transfer] if transfer in GAMMAS else SRGB_CURVE
            if primaries in PRIMARIES and (profile := rgb_profile(PRIMARIES[primaries], curve)):
                yield profile


def _first(siblings: list[Box], kind: bytes) -> Box:
    return next(box for box in siblings if box.kind == kind)


def _item_kinds(data: bytes, iinf: Box) -> dict[int, bytes]:
    """The kind of each item, by its id."""
    start = iinf.start + (6 if data[iinf.start] == 0 else 8)
    kinds = {}
    for box in boxes(data, start, iinf.end):
        version = data[box.start]
        if box.kind == b"infe" and version >= 2:  # older ones have no kind
            width = 2 if version == 2 else 4
            item = int.from_bytes(data[box.start + 4 : box.start + 4 + width])
            place = box.start + 4 + width + 2  # after the number of the protection
            kinds[item] = data[place : place + 4]
    return kinds


def _primary(data: bytes, pitm: Box) -> int:
    return int.from_bytes(data[pitm.start + 4 : pitm.start + (6 if data[pitm.start] == 0 else 8)])


def _references(data: bytes, iref: Box) -> list[tuple[bytes, int, tuple[int, ...]]]:
    """Kind, item and the items that it refers to."""
    width = 2 if data[iref.start] == 0 else 4
    references = []
    for box in boxes(data, iref.start + 4, iref.end):
        item = int.from_bytes(data[box.start : box.start + width])
        count = int.from_bytes(data[box.start + width : box.start + width + 2])
        first = box.start + width + 2
        places = range(first, min(first + count * width, box.end), width)
        targets = (int.from_bytes(data[place : place + width]) for place in places)
        references.append((box.kind, item, tuple(targets)))
    return references


def _properties(data: bytes, iprp: Box) -> dict[int, list[Box]]:
    """The properties of each item."""
    inside = list(boxes(data, iprp.start, iprp.end))
    container = _first(inside, b"ipco")
    properties = list(boxes(data, container.start, container.end))
    by_item: dict[int, list[Box]] = {}
    for box in inside:
        if box.kind == b"ipma":
            for item, indices in _associations(data, box):
                own = [properties[index - 1] for index in indices if 0 < index <= len(properties)]
                by_item.setdefault(item, []).extend(own)
    return by_item


def _associations(data: bytes, ipma: Box) -> Iterator[tuple[int, list[int]]]:
    """Items and the numbers of their properties."""
    version, is_wide = data[ipma.start], data[ipma.start + 3] & 1
    (count,) = struct.unpack_from(">I", data, ipma.start + 4)
    place = ipma.start + 8
    for _ in range(min(count, MAX_ITEMS)):
        width = 2 if version == 0 else 4
        item, number = int.from_bytes(data[place : place + width]), data[place + width]
        place += width + 1
        size, mask = (2, 0x7FFF) if is_wide else (1, 0x7F)
        ends = range(place, place + number * size, size)
        yield item, [int.from_bytes(data[start : start + size]) & mask for start in ends]
        place += number * size


def _turns(data: bytes, box: Box) -> bool:
    return box.kind == b"imir" or (box.kind == b"irot" and bool(data[box.start] & 3))


def _depth(data: bytes, box: Box) -> int:
    """Bits per channel, by a property; 0 if it is another one."""
    if box.kind == b"pixi":
        return max(data[box.start + 5 : box.start + 5 + data[box.start + 4]], default=0)
    if box.kind == b"av1C":
        return 10 if data[box.start + 2] & 0x40 else 8
    if box.kind == b"hvcC":
        return 8 + (data[box.start + 17] & 7)
    return 0


def _is_alpha(data: bytes, box: Box) -> bool:
    return box.kind == b"auxC" and data[box.start + 4 : box.end].split(b"\0")[0] in ALPHA


def _is_hdr(data: bytes, box: Box) -> bool:
    is_nclx = data[box.start : box.start + 4] == b"nclx"
    return is_nclx and int.from_bytes(data[box.start + 6 : box.start + 8]) in HDR_TRANSFERS
