"""Read the header of an untrusted image: format, size, orientation, colours, oddities."""

import io
import warnings
from dataclasses import dataclass
from enum import StrEnum

from PIL import Image

from pipeline.images.colour import LAB, Conversion, find_conversion
from pipeline.images.format_detection import detect_format, name_other_image, name_unread
from pipeline.images.formats import bmp, gif, heif, jpeg, png, tiff, webp
from pipeline.images.formats.metadata import Metadata
from pipeline.images.formats.tiff import Tiff
from pipeline.images.orientation import ORIENTATION, UPRIGHT, read_orientation
from pipeline.images.pillow_settings import FORMATS, PILLOW_ERRORS, configure_pillow

JPEGS = {"JPEG", "MPO"}
LOSSLESS = {"PNG", "GIF", "BMP", "TIFF"}
TRANSPARENT = {"RGBA", "RGBa", "LA", "La", "PA"}  # modes of Pillow
# Modes of the pixels, by Pillow's; RGB for the others.
MODES = dict.fromkeys(("1", "L", "LA", "La", "I;16", "I;16B", "I;16L"), "L") | {
    "CMYK": "CMYK",
    LAB: LAB,
}
METADATA_READERS = {
    "JPEG": jpeg.read_metadata,
    "PNG": png.read_metadata,
    "GIF": gif.read_metadata,
    "BMP": bmp.read_metadata,
    "WEBP": webp.read_metadata,
    "TIFF": tiff.read_metadata,
    "AVIF": heif.read_metadata,
}


class RejectReason(StrEnum):
    """Why an image is rejected, in the order of the checks. No other reason exists."""

    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED = "unsupported"  # a format or kind that is not read: JPEG XL, a raw photograph, ...
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
    LOW_16_BIT = "low_16_bit"
    SCALED_BY_BITS = "scaled_by_bits"
    COLOUR_CONVERTED = "colour_converted"
    EXTRANEOUS_BYTES = "extraneous_bytes"
    WRONG_END = "wrong_end"


MEANING: dict[str, str] = {
    RejectReason.EMPTY: "a file of no bytes",
    RejectReason.NOT_AN_IMAGE: "not an image by its content, whatever its name",
    RejectReason.UNSUPPORTED: "an image format or kind that is not read, such as JPEG XL or raw",
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
    Warn.ROTATED: "turned upright by its EXIF or XMP orientation",
    Warn.TRANSPARENCY_FLATTENED: "transparency replaced by white",
    Warn.FIRST_FRAME_ONLY: "several frames or pages; the first is used",
    Warn.CMYK_CONVERTED: "CMYK, converted to RGB",
    Warn.REDUCED_TO_8_BIT: "more than 8 bits per channel, reduced to 8",
    Warn.LOW_16_BIT: "16 bits per channel of which at most 14 are used: very dark, or unscaled",
    Warn.SCALED_BY_BITS: "made brighter, as the file says that fewer than 16 bits are used",
    Warn.COLOUR_CONVERTED: "converted to sRGB from the colour space that the file names",
    Warn.EXTRANEOUS_BYTES: "bytes that belong to no part of the file; left out",
    Warn.WRONG_END: "its end or length is missing or wrong, but no pixel is; put right",
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
    """EXIF's code of how decoders leave it turned: 1 is upright."""
    plain: bool
    """8-bit RGB, sRGB, upright, one frame, opaque."""
    warnings: tuple[Warn, ...]
    mode: str
    """Of the pixels, as Pillow calls it: L, RGB, CMYK or LAB."""
    conversion: Conversion | None
    """To sRGB, if the pixels are in another colour space."""
    lossless: bool
    """Whether nothing is lost when the pixels are stored as PNG."""


class Unreadable(Exception):
    """The bytes cannot be decoded, for a `reason`."""

    def __init__(self, reason: RejectReason, format: str = "") -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.format = format


def read_header(data: bytes) -> Header:
    """Read the header without decoding pixels.

    Raises:
        Unreadable: no image, judged by content and not by name, or one that cannot be read.
    """
    form = detect_format(data)
    if form is None:
        if other := name_other_image(data):
            raise Unreadable(RejectReason.UNSUPPORTED, other)
        raise Unreadable(RejectReason.NOT_AN_IMAGE, name_unread(data) or "")
    if form == "HEIF":
        return _read_heif(data)
    directories = tiff.read_tiff(data) if form == "TIFF" else None
    if form == "TIFF" and directories is None:
        raise Unreadable(RejectReason.DAMAGED, form)
    if not _is_supported(form, data, directories):
        raise Unreadable(RejectReason.UNSUPPORTED, form)
    metadata = METADATA_READERS[form](data)
    try:
        basics = _read_with_pillow(visible_data(form, data), metadata)
    except PILLOW_ERRORS as error:
        is_whole = _is_whole(form, data, directories)  # then it is Pillow that cannot read it
        reason = RejectReason.UNSUPPORTED if is_whole else RejectReason.DAMAGED
        raise Unreadable(reason, form) from error
    return _describe(basics, metadata.profiles, form, data, directories)


def _read_heif(data: bytes) -> Header:
    """Read the boxes of a HEIC; libheif, which decodes it, turns it upright."""
    picture = heif.read_picture(data)
    if picture is None:
        is_film = heif.is_animation(data)  # without a picture
        reason = RejectReason.UNSUPPORTED if is_film else RejectReason.DAMAGED
        raise Unreadable(reason, "HEIF")
    if not picture.is_supported:
        raise Unreadable(RejectReason.UNSUPPORTED, "HEIF")
    conversion = find_conversion(picture.profiles, "RGB")
    return Header(
        "HEIF",
        picture.width,
        picture.height,
        UPRIGHT,
        plain=False,
        warnings=_list_warnings(
            {
                Warn.ROTATED: picture.is_turned,
                Warn.TRANSPARENCY_FLATTENED: picture.has_alpha,
                Warn.FIRST_FRAME_ONLY: picture.has_others,
                Warn.REDUCED_TO_8_BIT: picture.is_deep,
                Warn.COLOUR_CONVERTED: conversion is not None,
            }
        ),
        mode="RGB",
        conversion=conversion,
        lossless=False,
    )


def _list_warnings(conditions: dict[Warn, bool]) -> tuple[Warn, ...]:
    return tuple(warn for warn, applies in conditions.items() if applies)


@dataclass(frozen=True)
class _Basics:
    """What Pillow reads in a header."""

    format: str
    mode: str
    width: int
    height: int
    orientation: int
    """By EXIF or XMP."""
    has_frames: bool
    is_transparent: bool
    has_warnings: bool


def _read_with_pillow(data: bytes, metadata: Metadata) -> _Basics:
    """Raises one of `PILLOW_ERRORS` if that is impossible."""
    configure_pillow()
    with warnings.catch_warnings(record=True) as pillow_warnings:  # of malformed metadata
        warnings.simplefilter("always")
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _Basics(
                image.format or "",
                image.mode,
                image.width,
                image.height,
                _orientation_of(image, metadata),
                bool(getattr(image, "is_animated", False)),
                image.mode in TRANSPARENT or "transparency" in image.info,
                bool(pillow_warnings),
            )


def _orientation_of(image: Image.Image, metadata: Metadata) -> int:
    """By EXIF or XMP; of an AVIF by its boxes, from which Pillow makes EXIF's code."""
    if image.format == "AVIF":
        return int(image.getexif().get(ORIENTATION, UPRIGHT))
    return read_orientation(metadata)


def _describe(
    basics: _Basics,
    profiles: tuple[bytes, ...],
    form: str,
    data: bytes,
    directories: Tiff | None,
) -> Header:
    mode = MODES.get(basics.mode, "RGB")
    conversion = find_conversion(profiles, mode)
    by_decoder = directories.orientation if directories else None  # by its own tag, not by XMP
    conditions = {
        Warn.ROTATED: (by_decoder or basics.orientation) != UPRIGHT,
        Warn.TRANSPARENCY_FLATTENED: basics.is_transparent,
        Warn.FIRST_FRAME_ONLY: basics.has_frames or (form == "PNG" and png.has_frames(data)),
        Warn.CMYK_CONVERTED: mode == "CMYK",
        Warn.REDUCED_TO_8_BIT: _is_deep(form, data, directories),
        Warn.COLOUR_CONVERTED: conversion is not None,
    }
    warns = _list_warnings(conditions)
    is_usual = basics.format in {"JPEG", "PNG"} and basics.mode == "RGB" and not warns
    return Header(
        basics.format,
        basics.width,
        basics.height,
        UPRIGHT if by_decoder else basics.orientation,
        is_usual and not basics.has_warnings and (form != "PNG" or png.is_clean(data)),
        warns,
        mode,
        conversion,
        form in LOSSLESS or (form == "WEBP" and webp.is_lossless(data)),
    )


def visible_data(form: str, data: bytes) -> bytes:
    """What decoders see: of a PNG its pixels, because they refuse it for faults of metadata."""
    return png.pixel_data(data) if form == "PNG" else data


def _is_supported(form: str, data: bytes, directories: Tiff | None) -> bool:
    """Whether this kind of the format is read; as far as the structure is readable."""
    if form == "JPEG":
        frame = jpeg.read_frame(data)
        return frame is None or jpeg.is_supported(frame)
    if form == "PNG":
        return png.is_supported(data)
    if form == "AVIF":
        picture = heif.read_picture(data)
        return picture is None or picture.is_supported
    return directories is None or directories.is_supported


def _is_whole(form: str, data: bytes, directories: Tiff | None) -> bool:
    """Whether nothing is missing in the structure, as far as the format tells that."""
    if form == "BMP":
        header = bmp.read_bmp_header(data)
        return header is not None and header.is_whole
    return directories is not None and directories.first.is_within(len(data))


def _is_deep(form: str, data: bytes, directories: Tiff | None) -> bool:
    """Whether it has more than 8 bits per channel."""
    if form == "PNG":
        return data[png.BIT_DEPTH] > 8
    if form == "AVIF":
        picture = heif.read_picture(data)
        return picture is not None and picture.is_deep
    return directories is not None and directories.first.depth > 8
