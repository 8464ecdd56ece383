"""Decode untrusted bytes into pixels; no other module does.

First the header and its size are checked, then OpenCV decodes. A JPEG is also decoded by simplejpeg
in strict mode, which detects damage that OpenCV ignores. Where its bytes will be stored unchanged,
that alone, at a reduced scale, is enough: both use libjpeg-turbo.
"""

import io
import warnings
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from pipeline.core.errors import PipelineError
from pipeline.images.header import (
    JPEGS,
    PILLOW_ERRORS,
    PILLOW_FORMATS,
    Header,
    RejectReason,
    Unreadable,
    Warn,
    configure_pillow,
    read_header,
)

Pixels = npt.NDArray[np.uint8]  # (height, width, 3), RGB
Grey = npt.NDArray[np.uint8]  # (height, width)

OUT_OF_MEMORY = -4  # cv::Error::StsNoMem
UNKNOWN_SUBSAMPLING = "Could not determine subsampling"  # simplejpeg's message; no damage
STRIP_ROWS = 256
DECODER_BYTES = 12  # per pixel, at most
AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# The flags for grey contain only the scale; those for colour also contain BGR.
REDUCED_SCALES = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
}
MAX_SQUARES = 4  # the area of a stored image, at most, in squares of its allowed side


@cache
def configure_opencv() -> None:
    """Set OpenCV's threads and log level for this process; repeated calls are free."""
    # Images are the unit of parallelism: threads within an image would compete for the cores.
    cv2.setNumThreads(0)
    cv2.utils.logging.setLogLevel(0)  # damage is reported by `Unreadable`


def load(data: bytes, max_megapixels: float, side: int) -> tuple[Header, Pixels]:
    """Decode untrusted bytes into upright pixels with a shorter side of at most `side`.

    An image longer than `MAX_SQUARES` times its width is scaled down to the area of such a strip.

    Raises:
        Unreadable: with the reason.
        MemoryError: too little memory; the image may be sound.
    """
    header = check_header(data, max_megapixels)
    try:
        if header.format in JPEGS and Warn.CMYK_CONVERTED not in header.warnings:
            return header, _shrink(_decode_strict_rgb(header, data), side)
        return header, decode_checked(header, data, side)
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


def decode_checked(header: Header, data: bytes, side: int) -> Pixels:
    """Decode an image of any kind and check it strictly; upright, its shorter side at most `side`.

    Raises:
        Unreadable, cv2.error: it is damaged.
    """
    if header.format in JPEGS:
        decode_strict(header, data, "CMYK" if Warn.CMYK_CONVERTED in header.warnings else "RGB", 1)
    flattened = Warn.TRANSPARENCY_FLATTENED in header.warnings
    pixels = _decode_transparent(header, data) if flattened else decode_upright(header, data)
    return _shrink(pixels, side)


def decode(data: bytes, least: int | None = None) -> Pixels:
    """Decode a stored image: one that the filter accepted.

    Args:
        least: Pixels that suffice for the shorter side. A JPEG of at least two, four or eight times
            as many is decoded at a half, quarter or eighth, in a fraction of the time.

    Raises:
        PipelineError: it is no such image.
    """
    pixels = _imdecode(data, AS_STORED if least is None else _scaled(data, least))
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
    """As `decode_strict` and then `decode_upright`, in one pass: pixels are equal to OpenCV's."""
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError as error:
        if UNKNOWN_SUBSAMPLING not in str(error):
            raise Unreadable(RejectReason.DAMAGED, header.format) from error
        _decode_pillow(header, data, "RGB")
        return decode_upright(header, data)
    return _upright(header, pixels)


def _decode_pillow(header: Header, data: bytes, mode: str) -> npt.NDArray[np.uint8]:
    """Decode with Pillow, upright; raise Unreadable where the data end too early or are corrupt."""
    configure_pillow()
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image,
        ):
            if mode == "RGBA" and image.mode.startswith("I;16"):
                pixels = _deep_grey(image)
            else:
                pixels = np.array(image.convert(mode))
    except PILLOW_ERRORS as error:
        raise Unreadable(RejectReason.DAMAGED, header.format) from error
    return _upright(header, pixels)


def _deep_grey(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Convert 16-bit grey with one transparent value to RGBA; Pillow would clip at 255."""
    values = np.array(image)
    alpha = np.where(values == image.info.get("transparency", -1), 0, 255)
    return np.dstack([values >> 8] * 3 + [alpha]).astype(np.uint8)


def decode_upright(header: Header, data: bytes) -> Pixels:
    """Decode with OpenCV: RGB, upright.

    Raises:
        Unreadable: it is damaged, as far as OpenCV checks.
    """
    if header.format == "PNG" and not _has_whole_chunks(data):
        raise Unreadable(RejectReason.DAMAGED, header.format)
    pixels = _imdecode(data)
    if pixels is None:
        # OpenCV does not report whether memory was too little: try to allocate as much.
        np.empty(DECODER_BYTES * header.width * header.height, np.uint8)
        raise Unreadable(RejectReason.DAMAGED, header.format)
    return _upright(header, pixels)


def _has_whole_chunks(data: bytes) -> bool:
    """Whether no chunk of a PNG has a length beyond the file: OpenCV would allocate it."""
    start = len(b"\x89PNG\r\n\x1a\n")
    while start + 12 <= len(data):
        length, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        if kind == b"IEND":
            return True
        start += 12 + length
    return start <= len(data)


def _upright(header: Header, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Turn (H, W, ...) by the header's orientation: decoders differ in how they read EXIF."""
    if header.format == "TIFF" or header.orientation == 1:
        return pixels
    if header.orientation >= 5:  # mirrored at the diagonal
        pixels = pixels.swapaxes(0, 1)
    if header.orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if header.orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _imdecode(data: bytes, flags: int = AS_STORED) -> Pixels | None:
    configure_opencv()
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    if pixels is None or pixels.dtype != np.uint8:
        return None
    return pixels.astype(np.uint8, copy=False)


def _decode_transparent(header: Header, data: bytes) -> Pixels:
    """Decode onto white: RGB, upright. OpenCV must accept the image too.

    Pillow reads every kind of transparency; OpenCV only alpha as a fourth channel.
    """
    decode_upright(header, data)
    rgba = _decode_pillow(header, data, "RGBA")
    flat = np.empty((*rgba.shape[:2], 3), np.uint8)
    for start in range(0, len(rgba), STRIP_ROWS):  # in 16 bits, the whole would take much memory
        strip = rgba[start : start + STRIP_ROWS].astype(np.uint16)
        colour, alpha = strip[:, :, :3], strip[:, :, 3:]
        flat[start : start + STRIP_ROWS] = (colour * alpha + 255 * (255 - alpha) + 127) // 255
    return flat


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


def encode(pixels: Pixels, original: bytes, form: str) -> bytes:
    """Encode as PNG if the original format was lossless, otherwise as JPEG."""
    configure_opencv()
    lossless = form in {"PNG", "GIF", "BMP", "TIFF"} or original[12:16] == b"VP8L"
    options = [] if lossless else [cv2.IMWRITE_JPEG_QUALITY, 95]
    _, data = cv2.imencode(".png" if lossless else ".jpg", pixels[:, :, ::-1], options)
    return data.tobytes()
