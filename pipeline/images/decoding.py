"""Decode untrusted bytes into pixels; no other module does.

First the header and its size are checked, then OpenCV decodes, and Pillow what OpenCV guesses at:
BMP, GIF, TIFF and transparency; HEIC and AVIF have decoders of their own. A JPEG is also decoded
by simplejpeg in strict mode, which detects damage that OpenCV ignores. Where its bytes will be
stored unchanged, that alone, at a reduced scale, is enough: both use libjpeg-turbo.
"""

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from pipeline.core.errors import PipelineError
from pipeline.images import sample_range
from pipeline.images.colour import LAB
from pipeline.images.formats import png
from pipeline.images.header import (
    JPEGS,
    Header,
    RejectReason,
    Unreadable,
    Warn,
    read_header,
    visible_data,
)
from pipeline.images.heif_decoding import HEIF_FORMATS, decode_heif
from pipeline.images.opencv_decoding import (
    AS_STORED,
    check_memory,
    configure_opencv,
    decode_with_opencv,
)
from pipeline.images.orientation import turn
from pipeline.images.pillow_decoding import CannotDecode, Mode, decode_with_pillow
from pipeline.images.pixels import Grey, Pixels
from pipeline.images.rare_formats import RARE_FORMATS, decode_rare
from pipeline.images.repair import UNKNOWN_SUBSAMPLING, read_or_mend

OUT_OF_MEMORY = -4  # cv::Error::StsNoMem
STRIP_ROWS = 256
# The flags for grey contain only the scale; those for colour also contain BGR.
REDUCED_SCALES = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
}
MAX_SQUARES = 4  # the area of a stored image, at most, in squares of its allowed side


def load(data: bytes, max_megapixels: float, side: int) -> tuple[Header, Pixels]:
    """Decode untrusted bytes into upright pixels with a shorter side of at most `side`.

    An image longer than `MAX_SQUARES` times its width is scaled down to the area of such a strip.

    Raises:
        Unreadable: with the reason.
        MemoryError: too little memory; the image may be sound.
    """
    (header, pixels), mended = read_or_mend(data, lambda file: _load(file, max_megapixels, side))
    return replace(header, warnings=(*header.warnings, *mended.warnings)), pixels


def _load(data: bytes, max_megapixels: float, side: int) -> tuple[Header, Pixels]:
    header = check_header(data, max_megapixels)
    try:
        if header.format in JPEGS and header.mode != "CMYK":
            return header, _shrink(_decode_strict_rgb(header, data), side)
        return decode_checked(header, data, side)
    except cv2.error as error:
        if error.code == OUT_OF_MEMORY:
            raise MemoryError(str(error)) from error
        raise Unreadable(RejectReason.DAMAGED, header.format) from error


def check_header(data: bytes, max_megapixels: float) -> Header:
    """Read the header.

    Raises:
        Unreadable: it cannot be read, or has more than `max_megapixels`.
    """
    if not data:
        raise Unreadable(RejectReason.EMPTY)
    header = read_header(data)
    if header.width * header.height > max_megapixels * 1e6:
        raise Unreadable(RejectReason.TOO_MANY_PIXELS, header.format)
    return header


def decode_checked(header: Header, data: bytes, side: int) -> tuple[Header, Pixels]:
    """Decode an image of any kind and check it strictly; upright, its shorter side at most `side`.

    Returns:
        The header with warnings that only the pixels give, and the pixels.

    Raises:
        Unreadable, cv2.error: it is damaged.
    """
    if header.format in JPEGS:
        decode_strict(header, data, "CMYK" if header.mode == "CMYK" else "RGB", 1)
    flattened = Warn.TRANSPARENCY_FLATTENED in header.warnings
    pixels = _decode_transparent(header, data) if flattened else decode_upright(header, data)
    samples = sample_range.measure(header, data)
    if samples:
        header = replace(header, warnings=(*header.warnings, samples.warning))
    if samples and samples.bits:
        pixels = turn(_to_srgb(header, samples.scale()), header.orientation)
    return header, _shrink(pixels, side)


def decode(data: bytes, least: int | None = None) -> Pixels:
    """Decode a stored image: one that the filter accepted.

    Args:
        least: Pixels that suffice for the shorter side. A JPEG of at least two, four or eight times
            as many is decoded at a half, quarter or eighth, in a fraction of the time.

    Raises:
        PipelineError: it is not such an image.
    """
    flags = AS_STORED if least is None else _scaled(data, least)
    pixels = decode_with_opencv(png.pixel_data(data) if png.is_png(data) else data, flags)
    if pixels is None:
        raise PipelineError(
            "a stored image does not decode: delete data/clean and run `dvc repro` again"
        )
    return pixels


def _scaled(data: bytes, least: int) -> int:
    """OpenCV's flags for the smallest scale of a JPEG with at least `least` pixels."""
    if data[:2] != b"\xff\xd8":
        return AS_STORED
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError:  # unknown subsampling
        return AS_STORED
    for scale, flag in REDUCED_SCALES.items():
        if min(height, width) >= scale * least:
            return flag | AS_STORED
    return AS_STORED


def decode_strict(header: Header, data: bytes, colours: str, side: int) -> npt.NDArray[np.uint8]:
    """Decode a JPEG that must be free of damage: (height, width) or (height, width, channels).

    Args:
        side: The smallest scale with at least this many pixels on both sides is used.

    Raises:
        Unreadable: it is damaged.
    """
    try:
        # The fast methods change values slightly, too little for a hash or a verdict.
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data,
            colorspace=colours,
            fastdct=True,
            fastupsample=True,
            min_height=side,
            min_width=side,
            strict=True,
        )
    except ValueError as error:
        if UNKNOWN_SUBSAMPLING not in str(error):
            raise Unreadable(RejectReason.DAMAGED, header.format) from error
        pixels = _decode_pillow(header, data, "L" if colours == "GRAY" else "RGB")
    return pixels[:, :, 0] if colours == "GRAY" and pixels.ndim == 3 else pixels


def _decode_strict_rgb(header: Header, data: bytes) -> Pixels:
    """Like `decode_strict` and then `decode_upright`, in one pass: pixels are equal to OpenCV's."""
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError as error:
        if UNKNOWN_SUBSAMPLING not in str(error):
            raise Unreadable(RejectReason.DAMAGED, header.format) from error
        _decode_pillow(header, data, "RGB")
        return decode_upright(header, data)
    return turn(_to_srgb(header, pixels), header.orientation)


def _decode_pillow(header: Header, data: bytes, mode: Mode) -> npt.NDArray[np.uint8]:
    try:
        return decode_with_pillow(visible_data(header.format, data), mode)
    except CannotDecode as error:
        raise Unreadable(RejectReason.DAMAGED, header.format) from error


def decode_upright(header: Header, data: bytes) -> Pixels:
    """Decode: RGB in sRGB, upright.

    Raises:
        Unreadable: damaged, as far as its decoder checks, or a kind whose pixels are uncertain.
    """
    return turn(_to_srgb(header, _decode(header, data)), header.orientation)


def _decode(header: Header, data: bytes) -> npt.NDArray[np.uint8]:
    """Decode: RGB, or CMYK or Lab where that is converted."""
    if header.mode == LAB:  # OpenCV takes it for another white
        return _decode_pillow(header, data, "LAB")
    if header.mode == "CMYK" and header.format in JPEGS and header.conversion:
        return _decode_pillow(header, data, "CMYK")
    if header.format in HEIF_FORMATS:
        return decode_heif(header, data, "RGB")
    if header.format in RARE_FORMATS:
        return decode_rare(
            header, data, "CMYK" if header.conversion and header.mode == "CMYK" else "RGB"
        )
    return _decode_opencv(header, data)


def _decode_opencv(header: Header, data: bytes) -> Pixels:
    if header.format == "PNG" and png.is_cut_off(data):
        raise Unreadable(RejectReason.DAMAGED, header.format)
    pixels = decode_with_opencv(visible_data(header.format, data))
    if pixels is None:
        check_memory(header.width, header.height)
        raise Unreadable(RejectReason.DAMAGED, header.format)
    return pixels


def _to_srgb(header: Header, pixels: npt.NDArray[np.uint8]) -> Pixels:
    """Convert (H, W, channels), of which grey pixels have three equal ones."""
    if header.conversion is None:
        return pixels
    return header.conversion.apply(pixels[:, :, 0] if header.mode == "L" else pixels)


def _decode_transparent(header: Header, data: bytes) -> Pixels:
    """Decode onto white: RGB, upright.

    Pillow reads every kind of transparency; OpenCV, which must accept the image too, only alpha as
    a fourth channel.
    """
    if header.format in RARE_FORMATS:
        rgba = decode_rare(header, data, "RGBA")
    elif header.format in HEIF_FORMATS:
        rgba = decode_heif(header, data, "RGBA")
    else:
        _decode_opencv(header, data)
        rgba = _decode_pillow(header, data, "RGBA")
    converted, flat = _to_srgb(header, rgba[:, :, :3]), np.empty((*rgba.shape[:2], 3), np.uint8)
    for start in range(0, len(rgba), STRIP_ROWS):  # in 16 bits, the whole would take much memory
        rows = slice(start, start + STRIP_ROWS)
        colour, alpha = converted[rows].astype(np.uint16), rgba[rows, :, 3:].astype(np.uint16)
        flat[rows] = (colour * alpha + 255 * (255 - alpha) + 127) // 255
    return turn(flat, header.orientation)


def to_grey(pixels: Pixels) -> Grey:
    configure_opencv()
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)


def is_small_enough(height: int, width: int, side: int) -> bool:
    """Whether an image is stored at its own size."""
    return min(height, width) <= side and height * width <= MAX_SQUARES * side**2


def _shrink(pixels: Pixels, side: int) -> Pixels:
    configure_opencv()
    height, width = pixels.shape[:2]
    if is_small_enough(height, width, side):
        return pixels
    scale = min(side / min(height, width), side * (MAX_SQUARES / (height * width)) ** 0.5)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def encode(pixels: Pixels, lossless: bool) -> bytes:
    """Encode as PNG, or as JPEG."""
    configure_opencv()
    options = [] if lossless else [cv2.IMWRITE_JPEG_QUALITY, 95]
    _, data = cv2.imencode(".png" if lossless else ".jpg", pixels[:, :, ::-1], options)
    return data.tobytes()
