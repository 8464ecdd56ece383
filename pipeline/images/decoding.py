"""The only decoder: untrusted bytes become a verdict, and pixels.

Header first (no pixel is read), then size, then the decoding itself, by OpenCV. A JPEG also goes
through a strict pass (simplejpeg) that notices the damage OpenCV forgives; where its bytes will be
stored as they are, this pass at reduced scale is enough: both decode with libjpeg-turbo.
"""

import io
import warnings

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from pipeline.core.errors import PipelineError
from pipeline.images.header import (
    HEADER_ERRORS,
    JPEGS,
    OPENED,
    Header,
    RejectReason,
    Unreadable,
    Warn,
    read_header,
)

# Images are the unit of parallelism; threads inside one would only fight over the cores.
cv2.setNumThreads(0)
cv2.utils.logging.setLogLevel(0)  # what it has to say of a damaged file is in the verdict

Pixels = npt.NDArray[np.uint8]  # (height, width, 3), RGB
Grey = npt.NDArray[np.uint8]  # (height, width)

OUT_OF_MEMORY = -4  # cv::Error::StsNoMem
UNJUDGED = "Could not determine subsampling"  # of a JPEG that is sound, for all simplejpeg knows
STRIP = 256  # rows
DECODER_BYTES = 12  # per pixel, that decoders take at most
AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# The flags for grey stand for the scale alone; those for colour would also say BGR.
REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
}
STRETCH = 4  # an image is stored with the area of at most this many squares of its side


def load(data: bytes, max_megapixels: float, side: int) -> tuple[Header, Pixels]:
    """Bytes from anywhere become upright pixels whose shorter side is at most `side`.

    What is longer than `STRETCH` times its width is scaled down to the area of such a strip.

    Raises:
        Unreadable: with the reason, closed over `Reason`.
        MemoryError: there is not enough of it, which says nothing of the image.
    """
    header = _affordable(data, max_megapixels)
    try:
        if header.format in JPEGS and Warn.CMYK_CONVERTED not in header.warnings:
            return header, _shrink(_strictly_decoded(header, data), side)
        return header, _pixels(header, data, side)
    except cv2.error as error:
        if error.code == OUT_OF_MEMORY:
            raise MemoryError(str(error)) from error
        raise Unreadable(RejectReason.DAMAGED, header.format) from error


def _affordable(data: bytes, max_megapixels: float) -> Header:
    if not data:
        raise Unreadable(RejectReason.EMPTY)
    header = read_header(data)
    if header.width * header.height > max_megapixels * 1e6:
        raise Unreadable(RejectReason.TOO_MANY_PIXELS, header.format)
    return header


def _pixels(header: Header, data: bytes, side: int) -> Pixels:
    if header.format in JPEGS:
        _strict(header, data, "CMYK" if Warn.CMYK_CONVERTED in header.warnings else "RGB", 1)
    flattened = Warn.TRANSPARENCY_FLATTENED in header.warnings
    return _shrink(_decode_transparent(header, data) if flattened else _decode(header, data), side)


def decode(data: bytes, least: int | None = None) -> Pixels:
    """The pixels of a stored image, one that `judge` has kept.

    Args:
        least: Side, in pixels, that both sides need not exceed: a JPEG that is larger by a half,
            quarter or eighth is decoded at that scale, in a fraction of the time.

    Raises:
        PipelineError: it is not one.
    """
    pixels = _opencv(data, AS_STORED if least is None else _scaled(data, least))
    if pixels is None:
        raise PipelineError(
            "a stored image does not decode: delete data/clean and run `dvc repro` again"
        )
    return pixels


def _scaled(data: bytes, least: int) -> int:
    """OpenCV's flags to decode a JPEG at the smallest scale that leaves `least` pixels."""
    if data[:2] != b"\xff\xd8":
        return AS_STORED
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError:  # a subsampling that it does not know
        return AS_STORED
    for scale, flag in REDUCED.items():
        if min(height, width) >= scale * least:
            return flag | AS_STORED
    return AS_STORED


def _strict(header: Header, data: bytes, colours: str, side: int) -> npt.NDArray[np.uint8]:
    """(height, width) or (height, width, channels) of a JPEG of which every byte makes sense.

    Args:
        side: Pixels that both sides should have left, where they have as many.

    Raises:
        Unreadable: something is missing, or makes no sense.
    """
    try:
        # The fast ways change the values by a little, which neither a hash nor a verdict notices.
        found: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data,
            colorspace=colours,
            fastdct=True,
            fastupsample=True,
            min_height=side,
            min_width=side,
            strict=True,
        )
    except ValueError as error:
        if UNJUDGED not in str(error):
            raise Unreadable(RejectReason.DAMAGED, header.format) from error
        found = _pillow(header, data, "L" if colours == "GRAY" else "RGB")
    return found[:, :, 0] if colours == "GRAY" and found.ndim == 3 else found


def _strictly_decoded(header: Header, data: bytes) -> Pixels:
    """As `_strict` and `_decode`, in one pass: to the last bit what OpenCV gives."""
    try:
        found: Pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError as error:
        if UNJUDGED not in str(error):
            raise Unreadable(RejectReason.DAMAGED, header.format) from error
        _pillow(header, data, "RGB")
        return _decode(header, data)
    return _upright(header, found)


def _pillow(header: Header, data: bytes, mode: str) -> npt.NDArray[np.uint8]:
    """Upright, through Pillow, which raises where a stream ends too early or breaks."""
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(data), formats=OPENED) as image,
        ):
            if mode == "RGBA" and image.mode.startswith("I;16"):
                return _upright(header, _deep_grey(image))
            return _upright(header, np.array(image.convert(mode)))
    except HEADER_ERRORS as error:
        raise Unreadable(RejectReason.DAMAGED, header.format) from error


def _deep_grey(image: Image.Image) -> npt.NDArray[np.uint8]:
    """RGBA of 16-bit grey of which one value is transparent; Pillow would cut it off at 255."""
    values = np.array(image)
    alpha = np.where(values == image.info.get("transparency", -1), 0, 255)
    return np.dstack([values >> 8] * 3 + [alpha]).astype(np.uint8)


def _decode(header: Header, data: bytes) -> Pixels:
    """Upright RGB through OpenCV."""
    if header.format == "PNG" and not _has_its_chunks(data):
        raise Unreadable(RejectReason.DAMAGED, header.format)
    pixels = _opencv(data)
    if pixels is None:
        # OpenCV does not say whether it was the image, or memory that other images hold.
        np.empty(DECODER_BYTES * header.width * header.height, np.uint8)
        raise Unreadable(RejectReason.DAMAGED, header.format)
    return _upright(header, pixels)


def _has_its_chunks(data: bytes) -> bool:
    """Whether no chunk of a PNG claims more bytes than there are, which OpenCV would ask for."""
    start = len(b"\x89PNG\r\n\x1a\n")
    while start + 12 <= len(data):
        length, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        if kind == b"IEND":
            return True
        start += 12 + length
    return start <= len(data)


def _upright(header: Header, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W, ...) turned as the header says: decoders read EXIF in ways of their own."""
    if header.format == "TIFF" or header.orientation == 1:
        return pixels
    if header.orientation >= 5:  # mirrored at the diagonal
        pixels = pixels.swapaxes(0, 1)
    if header.orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if header.orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _opencv(data: bytes, flags: int = AS_STORED) -> Pixels | None:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    if pixels is None or pixels.dtype != np.uint8:
        return None
    return pixels.astype(np.uint8, copy=False)


def _decode_transparent(header: Header, data: bytes) -> Pixels:
    """Upright RGB laid on white, of an image that OpenCV finds sound too.

    Pillow knows every way to be transparent; OpenCV has alpha only as a fourth channel.
    """
    _decode(header, data)
    layers = _pillow(header, data, "RGBA")
    flat = np.empty((*layers.shape[:2], 3), np.uint8)
    for start in range(0, len(layers), STRIP):  # or the sums would take several times the image
        strip = layers[start : start + STRIP].astype(np.uint16)
        colour, alpha = strip[:, :, :3], strip[:, :, 3:]
        flat[start : start + STRIP] = (colour * alpha + 255 * (255 - alpha) + 127) // 255
    return flat


def _grey(pixels: Pixels) -> Grey:
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)


def _fits(height: int, width: int, side: int) -> bool:
    return min(height, width) <= side and height * width <= STRETCH * side**2


def _shrink(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    if _fits(height, width, side):
        return pixels
    scale = min(side / min(height, width), side * (STRETCH / (height * width)) ** 0.5)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _encode(pixels: Pixels, original: bytes, form: str) -> bytes:
    """A PNG where the source was lossless, else a JPEG."""
    lossless = form in {"PNG", "GIF", "BMP", "TIFF"} or original[12:16] == b"VP8L"
    options = [] if lossless else [cv2.IMWRITE_JPEG_QUALITY, 95]
    _, data = cv2.imencode(".png" if lossless else ".jpg", pixels[:, :, ::-1], options)
    return data.tobytes()
