"""What untrusted bytes say about themselves before a pixel is decoded, read with Pillow."""

import io
import re
import struct
import warnings
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from PIL import Image, PngImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

# Pillow only reads headers here, and what is too large is refused before it is decoded.
Image.MAX_IMAGE_PIXELS = None
# A PNG may well have a colour profile or a description of more than the 1 MiB that Pillow allows.
PngImagePlugin.MAX_TEXT_CHUNK = 16 * 2**20

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
# How files of each format begin, for those whose header is too broken for Pillow.
READ = {
    rb"\xff\xd8": "JPEG",
    rb"\x89PNG\r\n\x1a\n": "PNG",
    rb"GIF8[79]a": "GIF",
    rb"RIFF....WEBP": "WEBP",
    rb"II\*\0|MM\0\*|II\+\0|MM\0\+": "TIFF",
    rb"BM....\0\0\0\0": "BMP",
}
# How others begin: HEIC and AVIF, JPEG XL, JPEG 2000, ICO and CUR, Photoshop, netpbm, Radiance,
# Sun raster, SGI, DDS, ICNS.
OTHERS = re.compile(
    rb"....ftyp(heic|heix|hevc|mif1|msf1|avif|avis)|\xff\x0a|....JXL |....jP  |\xff\x4f\xff\x51"
    rb"|\0\0[\1\2]\0|8BPS|P[1-7fF]\s|#\?RADIANCE|\x59\xa6\x6a\x95|\x01\xda[\0\1][\1\2]|DDS |icns",
    re.DOTALL,
)
# The frame header of a JPEG with 12 bits per sample.
DEEP_JPEG = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]\0.\x0c", re.DOTALL)
OPENED = tuple(EXTENSIONS.keys() - {"MPO"})  # Pillow finds an MPO while it opens a JPEG
ORIENTATION = 0x0112  # EXIF tag; 1 means upright
BITS_PER_SAMPLE, SAMPLE_FORMAT = 0x0102, 0x0153  # TIFF tags
# What Pillow's header parsers raise on hostile bytes, beside OSError and its subclasses.
HEADER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    AttributeError,
    ZeroDivisionError,
    RuntimeError,
)


class RejectReason(StrEnum):
    """Why an image is rejected; a closed list, in the order in which they are looked for."""

    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED = "unsupported"  # an image, of a kind that is not read here: HEIC, ICO, ...
    TOO_MANY_PIXELS = "too_many_pixels"
    DAMAGED = "damaged"
    TOO_SMALL = "too_small"
    BLANK = "blank"
    BREAKS_DECODER = "breaks_decoder"  # which died of it, or wanted too much time or memory
    BY_HAND = "by_hand"  # somebody put it into reject.csv
    DUPLICATE = "duplicate"
    CONFLICTING_LABELS = "conflicting_labels"
    NEAR_DUPLICATE = "near_duplicate"


class Warn(StrEnum):
    """What was noticed about an image that is no reason to reject it."""

    WRONG_EXTENSION = "wrong_extension"
    ROTATED = "rotated"
    TRANSPARENCY_FLATTENED = "transparency_flattened"
    FIRST_FRAME_ONLY = "first_frame_only"
    CMYK_CONVERTED = "cmyk_converted"
    REDUCED_TO_8_BIT = "reduced_to_8_bit"


MEANING = {
    RejectReason.EMPTY: "a file of no bytes",
    RejectReason.NOT_AN_IMAGE: "something else, whatever its name says",
    RejectReason.UNSUPPORTED: "an image of a kind that is not read here, such as HEIC, AVIF or ICO",
    RejectReason.TOO_MANY_PIXELS: "past filter.max_megapixels by its header; never decoded",
    RejectReason.DAMAGED: "cut short, or broken inside",
    RejectReason.TOO_SMALL: "its shorter side is below filter.min_side",
    RejectReason.BLANK: "a single colour",
    RejectReason.BREAKS_DECODER: "the decoder died of it, or it wanted too much time or memory",
    RejectReason.BY_HAND: "named in reject.csv",
    RejectReason.CONFLICTING_LABELS: "the same bytes stand under two labels: nobody knows which is "
    "right",
    RejectReason.DUPLICATE: "the same bytes stand elsewhere under the same label",
    RejectReason.NEAR_DUPLICATE: "looks like another that is kept (filter.near_duplicates is "
    "keep_one)",
    Warn.WRONG_EXTENSION: "its name promises another format than its bytes have",
    Warn.ROTATED: "turned upright, as its EXIF orientation says",
    Warn.TRANSPARENCY_FLATTENED: "laid on white",
    Warn.FIRST_FRAME_ONLY: "it has more frames or pages; the first one is taken",
    Warn.CMYK_CONVERTED: "colours of print, converted to RGB",
    Warn.REDUCED_TO_8_BIT: "it had more bits per channel",
}


@dataclass(frozen=True)
class Header:
    """What a file says about itself before a pixel is decoded."""

    format: str
    """As Pillow names it: JPEG, PNG, ..."""
    width: int
    height: int
    """In pixels, before any rotation."""
    orientation: int
    """As EXIF counts: 1 is upright. A TIFF's decoders have turned it already, whatever it says."""
    plain: bool
    """8-bit RGB, upright, one frame, opaque."""
    warnings: tuple[Warn, ...]


class Unreadable(Exception):
    """The bytes cannot become pixels, and why."""

    def __init__(self, reason: RejectReason, format: str = "") -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.format = format


def read_header(data: bytes) -> Header:
    """What the header says, without decoding.

    Raises:
        Unreadable: not an image, by content and not by name, or none that can be read.
    """
    try:
        with warnings.catch_warnings(record=True) as odd:  # of malformed metadata
            warnings.simplefilter("always")
            with Image.open(io.BytesIO(data), formats=OPENED) as image:
                form = image.format or ""
                orientation = _orientation(image)
                frames = bool(getattr(image, "is_animated", False))
                mode, width, height = image.mode, image.width, image.height
                transparent = mode in {"RGBA", "LA", "PA"} or "transparency" in image.info
                deep = _is_deep(image, data)
                measured = _is_measured(image)
    except HEADER_ERRORS as error:
        raise _unreadable(data) from error
    if measured:
        raise Unreadable(RejectReason.UNSUPPORTED, form)
    noticed = {
        Warn.ROTATED: orientation in range(2, 9),
        Warn.TRANSPARENCY_FLATTENED: transparent,
        Warn.FIRST_FRAME_ONLY: frames,
        Warn.CMYK_CONVERTED: mode == "CMYK",
        Warn.REDUCED_TO_8_BIT: deep,
    }
    noted = tuple(warning for warning, seen in noticed.items() if seen)
    plain = form in {"JPEG", "PNG"} and mode == "RGB" and not (noted or odd)
    return Header(form, width, height, orientation, plain, noted)


def _unreadable(data: bytes) -> Unreadable:
    """Why Pillow cannot read a header."""
    if OTHERS.match(data):
        return Unreadable(RejectReason.UNSUPPORTED)
    for start, form in READ.items():
        if re.match(start, data, re.DOTALL):
            deep = form == "JPEG" and DEEP_JPEG.search(data)
            return Unreadable(RejectReason.UNSUPPORTED if deep else RejectReason.DAMAGED, form)
    return Unreadable(RejectReason.NOT_AN_IMAGE)


def looks_like_image(start: bytes) -> bool:
    """Whether a file that begins so is an image of some kind, sound or not."""
    return bool(OTHERS.match(start)) or any(re.match(each, start, re.DOTALL) for each in READ)


def _orientation(image: Image.Image) -> int:
    """The EXIF tag as OpenCV reads it. Pillow's getexif would decode a PNG to look behind it."""
    try:
        if isinstance(image, TiffImageFile):
            return int(image.tag_v2.get(ORIENTATION, 1))
        exif = Image.Exif()
        exif.load(image.info.get("exif", b""))
        found = int(exif.get(ORIENTATION, 1))
        return found if found in range(1, 9) else 1
    except HEADER_ERRORS:
        return 1  # a picture is no worse for what is wrong about its metadata


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Whether there are more than 8 bits per channel."""
    if isinstance(image, TiffImageFile):
        return bool(max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))) > 8)
    return image.mode[0] in "IF" or (image.format == "PNG" and data[24:25] == b"\x10")


def _is_measured(image: Image.Image) -> bool:
    """Whether values are floats or of more than 16 bits: nobody knows how bright to draw them."""
    if not isinstance(image, TiffImageFile):
        return False
    floats = 3 in image.tag_v2.get(SAMPLE_FORMAT, (1,))
    return bool(floats or max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))) > 16)


def has_wrong_extension(name: str, form: str) -> bool:
    """Whether a file called `name` holds another format than its extension promises."""
    return PurePosixPath(name).suffix.lower() not in EXTENSIONS.get(form, set())
