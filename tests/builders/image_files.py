"""Image files that encoders do not write, or seldom, built byte by byte."""

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.images.matrix_profile import D65, Chromaticities, gamma_curve, rgb_profile
from pipeline.images.pixels import Pixels

RGB_TO_XYZ = {  # of linear light, white D65; http://www.brucelindbloom.com/
    "sRGB": np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    ),
    "Adobe RGB": np.array(
        [
            [0.5767309, 0.1855540, 0.1881852],
            [0.2973769, 0.6273491, 0.0752741],
            [0.0270343, 0.0706872, 0.9911085],
        ]
    ),
}
ADOBE_GAMMA = 563 / 256
Numbers = Sequence[int]


def scene(height: int = 60, width: int = 70) -> Pixels:
    """A smooth picture of many colours; none is so dark that 8 bits of another space lose it."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    y, x = y / (height - 1), x / (width - 1)
    channels = (x, 0.8 * y + 0.1, 0.6 * (1 - x) + 0.3 * y)
    return np.dstack([50 + 195 * channel for channel in channels]).astype(np.uint8)


def linear(pixels: Pixels) -> npt.NDArray[np.float64]:
    """sRGB in linear light, 0 to 1."""
    values = pixels / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def to_adobe_rgb(pixels: Pixels) -> Pixels:
    """The same colours in Adobe RGB."""
    matrix = np.linalg.inv(RGB_TO_XYZ["Adobe RGB"]) @ RGB_TO_XYZ["sRGB"]
    light = np.clip(linear(pixels) @ matrix.T, 0, 1)
    adobe: Pixels = (255 * light ** (1 / ADOBE_GAMMA)).round().astype(np.uint8)
    return adobe


def adobe_profile() -> bytes:
    """The ICC profile of Adobe RGB."""
    primaries = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
    profile = rgb_profile(Chromaticities(D65, *primaries), gamma_curve(ADOBE_GAMMA))
    assert profile
    return profile


# ---- PNG ----


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def insert_chunk(data: bytes, kind: bytes, body: bytes, before: bytes = b"IDAT") -> bytes:
    """Insert a chunk before the first one named `before`."""
    place = data.index(before) - 4
    return data[:place] + png_chunk(kind, body) + data[place:]


def raw_profile(name: bytes, body: bytes) -> bytes:
    """A profile as ImageMagick writes it into a text chunk."""
    digits = body.hex().encode()
    lines = b"\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    return b"\n%s\n%8d\n%s\n" % (name, len(body), lines)


# ---- JPEG ----


def insert_segment(data: bytes, marker: int, body: bytes) -> bytes:
    """Insert a segment after the start of a JPEG."""
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + data[2:]


# ---- WebP ----


def riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def webp(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


# ---- BMP ----


def bmp(
    width: int,
    height: int,
    bits: int,
    pixels: bytes,
    compression: int = 0,
    header_bytes: int = 40,
    masks: Numbers = (),
    palette: bytes = b"",
    profile: bytes = b"",
) -> bytes:
    """A BMP with a header of 12 to 124 bytes."""
    if header_bytes == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        colours = len(palette) // 4
        sizes = (len(pixels), 2835, 2835, colours, 0)
        header = struct.pack("<IiiHHI5I", header_bytes, width, height, 1, bits, compression, *sizes)
        header += struct.pack(f"<{len(masks)}I", *masks)
        header = header.ljust(header_bytes, b"\0")
    offset = 14 + len(header) + len(palette)
    if profile:  # version 5: its place is counted from the header
        header = header[:56] + b"DEBM" + header[60:112]
        header += struct.pack("<III", offset + len(pixels) - 14, len(profile), 0)
    size = offset + len(pixels) + len(profile)
    return struct.pack("<2sIII", b"BM", size, 0, offset) + header + palette + pixels + profile


def rle8(rows: npt.NDArray[np.uint8]) -> bytes:
    """Run lengths of rows from the bottom to the top: a pair of count and value per pixel run."""
    lines = []
    for row in rows[::-1].tolist():
        starts = [0, *(x for x in range(1, len(row)) if row[x] != row[x - 1])]
        for start, end in zip(starts, [*starts[1:], len(row)], strict=True):
            while start < end:
                count = min(255, end - start)
                lines.append(bytes([count, row[start]]))
                start += count
        lines.append(b"\0\0")
    return b"".join(lines) + b"\0\1"


# ---- TIFF ----

TIFF_TYPES = {1: "B", 3: "H", 4: "I", 7: "B"}  # struct codes
SUB_DIRECTORIES = 330
Entries = Mapping[int, tuple[int, Numbers]]  # types and values by tag


def tiff(
    pixels: bytes, *directories: Entries, sub: Entries | None = None, offset: int = 8
) -> bytes:
    """A little-endian TIFF: pixels from byte `offset` on, directories, `sub` below the first."""
    body = pixels + b"\0" * (len(pixels) % 2)
    position = offset + len(body)
    if sub:
        block = _tiff_directory(sub, position, is_last=True)
        first = {**directories[0], SUB_DIRECTORIES: (4, (position,))}
        directories = (first, *directories[1:])
        body, position = body + block, position + len(block)
    start = position
    for number, entries in enumerate(directories, 1):
        block = _tiff_directory(entries, position, is_last=number == len(directories))
        body, position = body + block, position + len(block)
    return b"II*\0" + struct.pack("<I", start) + body


def _tiff_directory(entries: Entries, position: int, is_last: bool) -> bytes:
    """A directory at `position`, followed by the values that it refers to."""
    values_position = position + 2 + 12 * len(entries) + 4
    table, values = struct.pack("<H", len(entries)), b""
    for tag, (kind, numbers) in sorted(entries.items()):
        packed = struct.pack(f"<{len(numbers)}{TIFF_TYPES[kind]}", *numbers)
        place = struct.pack("<I", values_position + len(values))
        table += struct.pack("<HHI", tag, kind, len(numbers))
        table += packed.ljust(4, b"\0") if len(packed) <= 4 else place
        values += packed + b"\0" * (len(packed) % 2) if len(packed) > 4 else b""
    following = 0 if is_last else values_position + len(values)
    return table + struct.pack("<I", following) + values


def strip(
    width: int, height: int, bits: Numbers, photometric: int, size: int
) -> dict[int, tuple[int, Numbers]]:
    """The entries of an uncompressed picture whose pixels are the first `size` bytes."""
    return {
        256: (4, (width,)),
        257: (4, (height,)),
        258: (3, bits),
        259: (3, (1,)),
        262: (3, (photometric,)),
        273: (4, (8,)),
        277: (3, (len(bits),)),
        278: (4, (height,)),
        279: (4, (size,)),
    }
