"""Which way up an image is, by its metadata."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.images.formats.metadata import Metadata
from pipeline.images.pillow_settings import PILLOW_ERRORS

UPRIGHT = 1
ORIENTATION = 0x0112  # EXIF tag
VALID = range(1, 9)
MAX_STRUCTURES = 16  # of EXIF, and packets of XMP, that are looked at
XMP_ORIENTATION = re.compile(
    rb"""(\w{1,50}):Orientation(?:\s*=\s*["']|(?:\s[^<>]{0,200})?>)\s*([1-8])\s*["'<]"""
)
# Which prefix a packet gives to the properties of TIFF; usually tiff.
XMP_PREFIX = re.compile(rb"""xmlns:(\w{1,50})\s*=\s*["']http://ns\.adobe\.com/tiff/1\.0/["']""")


def read_orientation(metadata: Metadata) -> int:
    """EXIF's code of how the image is turned, 1 to 8; `UPRIGHT` where nothing valid is declared.

    The first valid value counts: EXIF is what cameras write, XMP what editors add to it.
    """
    values = (
        *map(_of_exif, metadata.exif[:MAX_STRUCTURES]),
        *map(_of_xmp, metadata.xmp[:MAX_STRUCTURES]),
    )
    return next((value for value in values if value in VALID), UPRIGHT)


def turn(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn (H, W, ...) upright."""
    if orientation == UPRIGHT:
        return pixels
    if orientation >= 5:  # mirrored at the diagonal
        pixels = pixels.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _of_exif(body: bytes) -> int:
    """0 if there is none, or it is malformed, which is no damage."""
    exif = Image.Exif()
    try:
        exif.load(body)
        return _as_int(exif.get(ORIENTATION))
    except PILLOW_ERRORS:
        return 0


def _as_int(value: Any) -> int:
    """A tag's value, which may be of any type in a malformed file: then 0."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


def _of_xmp(packet: bytes) -> int:
    text = packet.replace(b"\0", b"")  # zeros: in UTF-16
    prefixes = {b"tiff", *XMP_PREFIX.findall(text)}
    values = (int(code) for prefix, code in XMP_ORIENTATION.findall(text) if prefix in prefixes)
    return next(values, 0)
