"""Read the header of an untrusted image with Pillow: format, size, orientation, oddities."""

import io
import re
import struct
import warnings
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from PIL import Image, PngImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

EXTENSIONS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "MPO": {".jpg", ".jpeg", ".mpo"},
    "PNG": {".png"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "WEBP": {".webp"},
    "TIFF": {".tif", ".tiff"},
}
JPEGS = {"JPEG", "MPO"}
# First bytes of the formats that are read, for files with a header too broken for Pillow.
SIGNATURES = {
    rb"\xff\xd8": "JPEG",
    rb"\x89PNG\r\n\x1a\n": "PNG",
    rb"GIF8[79]a": "GIF",
    rb"RIFF....WEBP": "WEBP",
    rb"II\*\0|MM\0\*|II\+\0|MM\0\+": "TIFF",
    rb"BM....\0\0\0\0": "BMP",
}
# First bytes of other formats: HEIC and AVIF, JPEG XL, JPEG 2000, ICO and CUR, Photoshop, netpbm,
# Radiance, Sun raster, SGI, DDS, ICNS.
UNSUPPORTED_SIGNATURES = re.compile(
    rb"....ftyp(heic|heix|hevc|mif1|msf1|avif|avis)|\xff\x0a|....JXL |....jP  |\xff\x4f\xff\x51"
    rb"|\0\0[\1\2]\0|8BPS|P[1-7fF]\s|#\?RADIANCE|\x59\xa6\x6a\x95|\x01\xda[\0\1][\1\2]|DDS |icns",
    re.DOTALL,
)
# The frame header of a JPEG with 12 bits per sample.
DEEP_JPEG = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]\0.\x0c", re.DOTALL)
# For `Image.open`; Pillow detects an MPO when it opens a JPEG.
PILLOW_FORMATS = tuple(EXTENSIONS.keys() - {"MPO"})
ORIENTATION = 0x0112  # EXIF tag; 1 means upright
BITS_PER_SAMPLE, SAMPLE_FORMAT = 0x0102, 0x0153  # TIFF tags
FLOAT = 3  # a value of SAMPLE_FORMAT
# What Pillow raises on hostile bytes, found by fuzzing each format (UnidentifiedImageError is an
# OSError). Anything else is a bug of ours.
PILLOW_ERRORS = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error)
MAX_PNG_TEXT_BYTES = 16 * 2**20  # Pillow allows 1 MiB of text or colour profile; some have more


class RejectReason(StrEnum):
    """Why an image is rejected, in the order of the checks. No other reason exists."""

    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED = "unsupported"  # an image format that is not read: HEIC, ICO, ...
    TOO_MANY_PIXELS = "too_many_pixels"
    DAMAGED = "damaged"
    TOO_SMALL = "too_small"
    BLANK = "blank"
    BREAKS_DECODER = "breaks_decoder"  # a crash, or too much time or memory
    BY_HAND = "by_hand"  # listed in reject.csv
    DUPLICATE = "duplicate"
    CONFLICTING_LABELS = "conflicting_labels"
    NEAR_DUPLICATE = "near_duplicate"


class Warn(StrEnum):
    """A property of an image that is worth a note, but no reason to reject it."""

    WRONG_EXTENSION = "wrong_extension"
    ROTATED = "rotated"
    TRANSPARENCY_FLATTENED = "transparency_flattened"
    FIRST_FRAME_ONLY = "first_frame_only"
    CMYK_CONVERTED = "cmyk_converted"
    REDUCED_TO_8_BIT = "reduced_to_8_bit"


MEANING: dict[str, str] = {
    RejectReason.EMPTY: "a file of no bytes",
    RejectReason.NOT_AN_IMAGE: "not an image by its content, whatever its name",
    RejectReason.UNSUPPORTED: "an image format that is not read, such as HEIC, AVIF or ICO",
    RejectReason.TOO_MANY_PIXELS: "more than filter.max_megapixels by its header; not decoded",
    RejectReason.DAMAGED: "truncated or corrupt",
    RejectReason.TOO_SMALL: "its shorter side is below filter.min_side",
    RejectReason.BLANK: "a single colour",
    RejectReason.BREAKS_DECODER: "the decoder crashed, or needed too much time or memory",
    RejectReason.BY_HAND: "listed in reject.csv",
    RejectReason.CONFLICTING_LABELS: "the same bytes under two labels",
    RejectReason.DUPLICATE: "the same bytes as another image of the same label",
    RejectReason.NEAR_DUPLICATE: "looks like another image (filter.near_duplicates is keep_one)",
    Warn.WRONG_EXTENSION: "the extension is that of another format",
    Warn.ROTATED: "turned upright by its EXIF orientation",
    Warn.TRANSPARENCY_FLATTENED: "transparency replaced by white",
    Warn.FIRST_FRAME_ONLY: "several frames or pages; the first is used",
    Warn.CMYK_CONVERTED: "CMYK, converted to RGB",
    Warn.REDUCED_TO_8_BIT: "more than 8 bits per channel, reduced to 8",
}


@dataclass(frozen=True)
class Header:
    """What the header of an image file contains."""

    format: str
    """Pillow's name of it: JPEG, PNG, ..."""
    width: int
    height: int
    """In pixels, before any rotation."""
    orientation: int
    """EXIF's code: 1 is upright. Decoders of TIFF apply it themselves."""
    plain: bool
    """8-bit RGB, upright, one frame, opaque."""
    warnings: tuple[Warn, ...]


class Unreadable(Exception):
    """The bytes cannot be decoded, for a `reason`."""

    def __init__(self, reason: RejectReason, format: str = "") -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.format = format


@cache
def configure_pillow() -> None:
    """Lift limits of Pillow that `read_header` and its callers replace; repeated calls are free."""
    # Callers check the size in the header before they decode.
    Image.MAX_IMAGE_PIXELS = None
    PngImagePlugin.MAX_TEXT_CHUNK = MAX_PNG_TEXT_BYTES


def read_header(data: bytes) -> Header:
    """Read the header without decoding pixels.

    Raises:
        Unreadable: no image, judged by content and not by name, or one that cannot be read.
    """
    configure_pillow()
    try:
        with warnings.catch_warnings(record=True) as pillow_warnings:  # of malformed metadata
            warnings.simplefilter("always")
            with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
                form = image.format or ""
                mode, width, height = image.mode, image.width, image.height
                has_frames = bool(getattr(image, "is_animated", False))
                is_transparent = mode in {"RGBA", "LA", "PA"} or "transparency" in image.info
                orientation = _orientation(image)
                bits, has_floats = _sample_format(image, data)
    except PILLOW_ERRORS as error:
        raise _unreadable(data) from error
    # The brightness of floats and of more than 16 bits is undefined.
    if form == "TIFF" and (has_floats or bits > 16):
        raise Unreadable(RejectReason.UNSUPPORTED, form)
    conditions = {
        Warn.ROTATED: orientation in range(2, 9),
        Warn.TRANSPARENCY_FLATTENED: is_transparent,
        Warn.FIRST_FRAME_ONLY: has_frames,
        Warn.CMYK_CONVERTED: mode == "CMYK",
        Warn.REDUCED_TO_8_BIT: bits > 8,
    }
    warns = tuple(warn for warn, applies in conditions.items() if applies)
    is_plain = form in {"JPEG", "PNG"} and mode == "RGB" and not (warns or pillow_warnings)
    return Header(form, width, height, orientation, is_plain, warns)


def _unreadable(data: bytes) -> Unreadable:
    """Why Pillow cannot read the header."""
    if UNSUPPORTED_SIGNATURES.match(data):
        return Unreadable(RejectReason.UNSUPPORTED)
    for signature, form in SIGNATURES.items():
        if re.match(signature, data, re.DOTALL):
            is_deep = form == "JPEG" and DEEP_JPEG.search(data)
            return Unreadable(RejectReason.UNSUPPORTED if is_deep else RejectReason.DAMAGED, form)
    return Unreadable(RejectReason.NOT_AN_IMAGE)


def looks_like_image(start: bytes) -> bool:
    """Whether these are the first bytes of an image of some kind, damaged or not."""
    return bool(UNSUPPORTED_SIGNATURES.match(start)) or any(
        re.match(signature, start, re.DOTALL) for signature in SIGNATURES
    )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation as OpenCV reads it; 1 if it is malformed.

    Pillow's getexif would decode a PNG, to find EXIF after the pixels.
    """
    try:
        if isinstance(image, TiffImageFile):
            return _as_int(image.tag_v2.get(ORIENTATION, 1))
        exif = Image.Exif()
        exif.load(image.info.get("exif", b""))
        orientation = _as_int(exif.get(ORIENTATION, 1))
    except PILLOW_ERRORS:  # malformed metadata is no damage
        return 1
    return orientation if orientation in range(1, 9) else 1


def _as_int(value: Any) -> int:
    """A tag's value, which may be of any type in a malformed file: then 1."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 1


def _sample_format(image: Image.Image, data: bytes) -> tuple[int, bool]:
    """Bits per channel, as far as it matters here (8, 16 or more), and whether they are floats."""
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(BITS_PER_SAMPLE, (1,))
        return max(bits), FLOAT in image.tag_v2.get(SAMPLE_FORMAT, (1,))
    is_deep_png = image.format == "PNG" and data[24:25] == b"\x10"  # bit depth of IHDR
    return (16 if image.mode[0] in "IF" or is_deep_png else 8), False


def has_wrong_extension(name: str, form: str) -> bool:
    """Whether the extension of `name` is not one of the format `form`."""
    return PurePosixPath(name).suffix.lower() not in EXTENSIONS.get(form, set())
