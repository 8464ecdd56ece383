"""Images that exercise decoders: turned, transparent, with odd metadata."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from pipeline.images.pixels import Pixels

RED, BLUE, GREY, WHITE = (200, 30, 30), (20, 40, 200), (230, 230, 230), (255, 255, 255)

ORIENTATION = 0x0112


def corners(height: int = 48, width: int = 64) -> Pixels:
    """Red at the top left, blue at the bottom left, grey on the right."""
    picture = np.full((height, width, 3), GREY, np.uint8)
    picture[: height // 2, : width // 2] = RED
    picture[height // 2 :, : width // 2] = BLUE
    return picture


def encode(picture: Pixels | Image.Image, form: str, **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def orientation_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def corner_colours(pixels: Pixels) -> list[tuple[int, ...]]:
    """Colours near the corners: top left, top right, bottom left, bottom right."""
    height, width = pixels.shape[:2]
    places = ((0.2, 0.2), (0.2, 0.8), (0.8, 0.2), (0.8, 0.8))
    return [tuple(pixels[int(y * height), int(x * width)].tolist()) for y, x in places]


def assert_colours(pixels: Pixels, *expected: tuple[int, ...]) -> None:
    assert np.abs(np.subtract(corner_colours(pixels), expected)).max() <= 4, corner_colours(pixels)


def insert_exif(data: bytes, exif: bytes) -> bytes:
    """Insert Exif near the start of a JPEG or a PNG."""
    if data.startswith(b"\xff\xd8"):
        body = b"Exif\0\0" + exif
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif
    place = data.index(b"IDAT") - 4
    return data[:place] + chunk + struct.pack(">I", zlib.crc32(b"eXIf" + exif)) + data[place:]


def exif_with_entry(entry: bytes, order: bytes = b"MM") -> bytes:
    return order + b"\0*\0\0\0\x08\0\x01" + entry + bytes(4)


ROTATED_BY_90 = b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"  # orientation 6: rotate by 90 degrees

# Exif that OpenCV applies and Pillow ignores.
SLOPPY = {
    "unknown type": exif_with_entry(ROTATED_BY_90.replace(b"\0\x03", b"\0\x97")),
    "unknown order": exif_with_entry(ROTATED_BY_90, b"M\x01"),
}
