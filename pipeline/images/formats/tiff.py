"""The directories of a TIFF: the pictures in it, and which of them is the photograph."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.images.formats.metadata import Metadata

MAX_DIRECTORIES = 64
MAX_ENTRIES = 1000  # of a directory
MAX_NUMBERS = 4096  # of an entry
MAX_TEXT_BYTES = 4 * 2**20  # of an entry
NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # struct codes, by type
# Tags.
SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIPS, ORIENTATION, SAMPLES, STRIP_BYTES, TILES, TILE_BYTES = 273, 274, 277, 279, 324, 325
OLD_SUBFILE_TYPE, SUB_DIRECTORIES, SAMPLE_FORMAT, DNG_VERSION = 255, 330, 339, 50706
MAX_SAMPLE = 281
XMP, PROFILE = 700, 34675
READ = {
    SUBFILE_TYPE,
    OLD_SUBFILE_TYPE,
    WIDTH,
    HEIGHT,
    BITS,
    COMPRESSION,
    PHOTOMETRIC,
    STRIPS,
    ORIENTATION,
    SAMPLES,
} | {STRIP_BYTES, TILES, TILE_BYTES, SUB_DIRECTORIES, SAMPLE_FORMAT, DNG_VERSION, MAX_SAMPLE}
REDUCED = 1  # a bit of SUBFILE_TYPE: a smaller version of another picture
OLD_REDUCED = 2  # a value of OLD_SUBFILE_TYPE
RAW_PHOTOMETRICS = {32803, 34892}  # a colour filter array, linear raw
BLACK_IS_ZERO, RGB, LAB = 1, 2, 8
# Read: white is zero, black is zero, RGB, palette, CMYK, YCbCr, Lab.
PHOTOMETRICS = {0, 1, 2, 3, 5, 6, LAB}
DEPTHS = {1, 2, 4, 8, 16}  # bits per sample
UNSIGNED, UNDEFINED = 1, 4  # values of SAMPLE_FORMAT
UNCOMPRESSED = 1
# What OpenCV reads: raw, CCITT, LZW, JPEG, deflate, PackBits.
OPENCV_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946}
CANON_RAW = b"II*\0\x10\0\0\0CR"


@dataclass(frozen=True)
class Directory:
    """The tags of one picture: numbers, or bytes."""

    numbers: dict[int, tuple[int, ...]]
    texts: dict[int, bytes]

    def number(self, tag: int, default: int) -> int:
        """The first number of a tag."""
        return (self.numbers.get(tag) or (default,))[0]

    @property
    def area(self) -> int:
        """In pixels."""
        return self.number(WIDTH, 0) * self.number(HEIGHT, 0)

    @property
    def depth(self) -> int:
        """Bits per sample."""
        return self.number(BITS, 1)

    @property
    def is_reduced(self) -> bool:
        is_old_preview = self.number(OLD_SUBFILE_TYPE, 0) == OLD_REDUCED
        return bool(self.number(SUBFILE_TYPE, 0) & REDUCED) or is_old_preview

    @property
    def is_raw(self) -> bool:
        """Whether it holds what a sensor measured, or belongs to such a file."""
        return self.number(PHOTOMETRIC, 0) in RAW_PHOTOMETRICS or DNG_VERSION in self.numbers

    def is_within(self, size: int) -> bool:
        """Whether it has a size, and its strips or tiles end within `size` bytes."""
        blocks = (
            zip(self.numbers.get(starts, ()), self.numbers.get(lengths, ()), strict=False)
            for starts, lengths in ((STRIPS, STRIP_BYTES), (TILES, TILE_BYTES))
        )
        ends = [start + length for pairs in blocks for start, length in pairs]
        return self.area > 0 and bool(ends) and max(ends) <= size


@dataclass(frozen=True)
class Tiff:
    """The pictures of a TIFF."""

    directories: tuple[Directory, ...]
    """In order; the first is what decoders read."""
    sub_directories: tuple[Directory, ...]
    has_raw_signature: bool = False

    @property
    def first(self) -> Directory:
        return self.directories[0]

    @property
    def orientation(self) -> int | None:
        """EXIF's code, if the first picture has a valid one; decoders apply it."""
        value = self.first.number(ORIENTATION, 0)
        return value if value in range(1, 9) else None

    @property
    def has_unread_photograph(self) -> bool:
        """Whether the first picture is only a preview of the photograph."""
        others = (*self.directories[1:], *self.sub_directories)
        larger = [other for other in others if other.area > self.first.area]
        has_whole = any(not other.is_reduced for other in self.sub_directories if other in larger)
        is_raw = any(picture.is_raw for picture in (self.first, *others))
        return (
            self.has_raw_signature or is_raw or has_whole or bool(self.first.is_reduced and larger)
        )

    @property
    def is_supported(self) -> bool:
        """Whether its samples have a defined brightness: unsigned, of a usual depth."""
        first = self.first
        count = first.number(SAMPLES, 1)
        depths = first.numbers.get(BITS, (1,))[:count]
        formats = first.numbers.get(SAMPLE_FORMAT, (UNSIGNED,))[:count]
        return (
            not self.has_unread_photograph
            and first.number(PHOTOMETRIC, 1) in PHOTOMETRICS
            and len(set(depths)) == 1
            and depths[0] in DEPTHS
            and set(formats) <= {UNSIGNED, UNDEFINED}
        )

    @property
    def max_sample(self) -> int:
        """The largest sample that the first picture names; 0 if it names none."""
        return max(self.first.numbers.get(MAX_SAMPLE, (0,)), default=0)

    @property
    def is_uncompressed(self) -> bool:
        return self.first.number(COMPRESSION, UNCOMPRESSED) == UNCOMPRESSED

    @property
    def is_known_to_opencv(self) -> bool:
        """Whether OpenCV reads this kind, so that its refusal means damage."""
        first = self.first
        photometric = first.number(PHOTOMETRIC, 1)
        is_usual = (
            first.depth == 8
            or (first.depth == 16 and photometric <= RGB)
            or (first.depth == 1 and photometric <= BLACK_IS_ZERO)
        )
        return is_usual and first.number(COMPRESSION, UNCOMPRESSED) in OPENCV_COMPRESSIONS


def read_tiff(data: bytes) -> Tiff | None:
    """The directories; None if the first cannot be read."""
    layout = _Layout.of(data)
    if layout is None:
        return None
    visited: set[int] = set()
    main = list(_chain(data, layout, layout.first, visited))
    starts = [start for picture in main for start in picture.numbers.get(SUB_DIRECTORIES, ())]
    subs = [sub for start in starts for sub in _chain(data, layout, start, visited)]
    if not main:
        return None
    return Tiff(tuple(main), tuple(subs), data.startswith(CANON_RAW))


def read_metadata(data: bytes) -> Metadata:
    """XMP and colour profile of the first picture; its orientation is a tag."""
    tiff = read_tiff(data)
    texts = tiff.first.texts if tiff else {}
    return Metadata(
        xmp=tuple(texts[tag] for tag in (XMP,) if tag in texts),
        profiles=tuple(texts[tag] for tag in (PROFILE,) if tag in texts),
    )


@dataclass(frozen=True)
class _Layout:
    """How numbers are written in a TIFF or BigTIFF."""

    order: str
    """Of bytes, as in struct."""
    first: int
    """Where the first directory starts."""
    count: str
    """struct code of the number of entries."""
    offset: str
    """struct code of offsets and counts."""

    @staticmethod
    def of(data: bytes) -> "_Layout | None":
        order = {b"II": "<", b"MM": ">"}.get(data[:2])
        if order is None or len(data) < 16:
            return None
        (version,) = struct.unpack_from(order + "H", data, 2)
        if version == 43:
            return _Layout(order, struct.unpack_from(order + "Q", data, 8)[0], "Q", "Q")
        return _Layout(order, struct.unpack_from(order + "I", data, 4)[0], "H", "I")


def _chain(data: bytes, layout: _Layout, start: int, visited: set[int]) -> Iterator[Directory]:
    """The directories from `start` on, each once."""
    while start and start not in visited and len(visited) < MAX_DIRECTORIES:
        visited.add(start)
        directory, start = _directory(data, layout, start)
        if directory is None:
            return
        yield directory


def _directory(data: bytes, layout: _Layout, start: int) -> tuple[Directory | None, int]:
    """The directory at `start` and where the next one starts."""
    entry = struct.Struct(f"{layout.order}HH{layout.offset}")
    offset = struct.Struct(layout.order + layout.offset)
    try:
        (count,) = struct.unpack_from(layout.order + layout.count, data, start)
        start += struct.calcsize(layout.count)
        numbers: dict[int, tuple[int, ...]] = {}
        texts: dict[int, bytes] = {}
        for _ in range(min(count, MAX_ENTRIES)):
            tag, kind, length = entry.unpack_from(data, start)
            place, start = start + entry.size, start + entry.size + offset.size
            code = NUMBERS.get(kind, "B")
            if length * struct.calcsize("=" + code) > offset.size:
                (place,) = offset.unpack_from(data, place)
            if tag in {XMP, PROFILE} and code == "B" and length <= MAX_TEXT_BYTES:
                texts[tag] = data[place : place + length]
            elif tag in READ and kind in NUMBERS and length <= MAX_NUMBERS:
                numbers[tag] = struct.unpack_from(f"{layout.order}{length}{code}", data, place)
        next_start = offset.unpack_from(data, start)[0] if count <= MAX_ENTRIES else 0
    except (struct.error, OverflowError):  # an offset beyond the file
        return None, 0
    return Directory(numbers, texts), next_start
