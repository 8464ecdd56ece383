"""The only decoder: untrusted bytes become a verdict, and pixels.

Header first (no pixel is read), then size, then the decoding itself, by OpenCV. A JPEG also goes
through a strict pass (simplejpeg) that notices the damage OpenCV forgives; where its bytes will be
stored as they are, this pass at reduced scale is enough: both decode with libjpeg-turbo.
"""

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.header import (
    HEADER_ERRORS,
    JPEGS,
    OPENED,
    Header,
    Reason,
    Unreadable,
    Warn,
    read_header,
)
from pipeline.phash import perceptual_hash

if TYPE_CHECKING:  # which takes longer than all else here
    from pipeline.params import Filter

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
REDUCED = {8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
           2: cv2.IMREAD_REDUCED_GRAYSCALE_2}  # fmt: skip
STRETCH = 4  # an image is stored with the area of at most this many squares of its side
HASHED = 64  # pixels of the shorter side that a reduced decoding leaves: twice what the hash needs


@dataclass(frozen=True)
class Judgement:
    """What the filter says about one image, judged by its bytes alone."""

    reason: Reason | None
    """Why it is rejected, or None."""
    format: str = ""
    warnings: tuple[Warn, ...] = ()
    width: int = 0
    height: int = 0
    """Of the stored image, in pixels."""
    phash: int = 0
    stored: bytes | None = None
    """The uniform encoding, or None where the original bytes already are one."""


def judge(data: bytes, limits: "Filter") -> Judgement:
    """Decode `data` once and say whether to keep it, and what to store.

    Raises:
        MemoryError: there is not enough of it, which says nothing of the image.
    """
    try:
        return _judge(data, limits)
    except cv2.error as error:
        if error.code == OUT_OF_MEMORY:
            raise MemoryError(str(error)) from error
        return Judgement(Reason.DAMAGED)


def _judge(data: bytes, limits: "Filter") -> Judgement:
    try:
        header = _affordable(data, limits.max_megapixels)
        as_is = header.plain and _fits(header.height, header.width, limits.store_side)
        if as_is and header.format == "JPEG":
            return _judge_as_is(header, data, limits)
        pixels = _pixels(header, data, limits.store_side)
    except Unreadable as error:
        return Judgement(error.reason, error.format)
    grey = _grey(pixels)
    rejected = _look(header, grey, pixels, limits.min_side)
    if rejected:
        return Judgement(rejected, header.format, header.warnings)
    return Judgement(
        None, header.format, header.warnings, pixels.shape[1], pixels.shape[0],
        perceptual_hash(grey), None if as_is else _encode(pixels, data, header.format),
    )  # fmt: skip


def _judge_as_is(header: Header, data: bytes, limits: "Filter") -> Judgement:
    """A JPEG whose bytes can stay. The strict pass decodes what OpenCV does, with less patience.

    Its entropy decoding, where damage shows and most of the time goes, is whole at any scale.
    """
    grey = _strict(header, data, "GRAY", HASHED)
    rejected = _look(header, grey, None, limits.min_side)
    if rejected is Reason.BLANK:  # in grey, at this scale: a fine pattern is not
        rejected = _look(header, grey, _decode(header, data), limits.min_side)
    if rejected:
        return Judgement(rejected, header.format)
    phash = perceptual_hash(grey)
    return Judgement(None, header.format, (), header.width, header.height, phash)


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
        raise Unreadable(Reason.DAMAGED, header.format) from error


def _affordable(data: bytes, max_megapixels: float) -> Header:
    if not data:
        raise Unreadable(Reason.EMPTY)
    header = read_header(data)
    if header.width * header.height > max_megapixels * 1e6:
        raise Unreadable(Reason.TOO_MANY_PIXELS, header.format)
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
            data, colorspace=colours, fastdct=True, fastupsample=True,
            min_height=side, min_width=side, strict=True,
        )  # fmt: skip
    except ValueError as error:
        if UNJUDGED not in str(error):
            raise Unreadable(Reason.DAMAGED, header.format) from error
        found = _pillow(header, data, "L" if colours == "GRAY" else "RGB")
    return found[:, :, 0] if colours == "GRAY" and found.ndim == 3 else found


def _strictly_decoded(header: Header, data: bytes) -> Pixels:
    """As `_strict` and `_decode`, in one pass: to the last bit what OpenCV gives."""
    try:
        found: Pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError as error:
        if UNJUDGED not in str(error):
            raise Unreadable(Reason.DAMAGED, header.format) from error
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
        raise Unreadable(Reason.DAMAGED, header.format) from error


def _deep_grey(image: Image.Image) -> npt.NDArray[np.uint8]:
    """RGBA of 16-bit grey of which one value is transparent; Pillow would cut it off at 255."""
    values = np.array(image)
    alpha = np.where(values == image.info.get("transparency", -1), 0, 255)
    return np.dstack([values >> 8] * 3 + [alpha]).astype(np.uint8)


def _decode(header: Header, data: bytes) -> Pixels:
    """Upright RGB through OpenCV."""
    if header.format == "PNG" and not _has_its_chunks(data):
        raise Unreadable(Reason.DAMAGED, header.format)
    pixels = _opencv(data)
    if pixels is None:
        # OpenCV does not say whether it was the image, or memory that other images hold.
        np.empty(DECODER_BYTES * header.width * header.height, np.uint8)
        raise Unreadable(Reason.DAMAGED, header.format)
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


def _look(header: Header, grey: Grey, pixels: Pixels | None, min_side: int) -> Reason | None:
    if min(header.width, header.height) < min_side:
        return Reason.TOO_SMALL
    if grey.min() == grey.max() and (pixels is None or (pixels == pixels[0, 0]).all()):
        return Reason.BLANK
    return None


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
