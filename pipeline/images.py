"""The only decoder: untrusted bytes become a verdict, and pixels.

Header first (Pillow, which reads no pixels), then size, then the decoding itself (OpenCV), and for
JPEG a strict pass at reduced scale (simplejpeg) that notices the damage OpenCV forgives.
"""

import io
import struct
import warnings
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from pipeline.params import Filter

# Images are the unit of parallelism; threads inside one would only fight over the cores.
cv2.setNumThreads(0)
# Pillow only reads headers here, and `load` refuses what is too large before it is decoded.
Image.MAX_IMAGE_PIXELS = None

Pixels = npt.NDArray[np.uint8]  # (height, width, 3), RGB

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
OPENED = tuple(EXTENSIONS.keys() - {"MPO"})  # Pillow finds an MPO while it opens a JPEG
ORIENTATION = 0x0112  # EXIF tag; 1 means upright
BITS_PER_SAMPLE = 0x0102  # TIFF tag
# What Pillow's header parsers raise on hostile bytes, beside OSError and its subclasses.
HEADER_ERRORS = (OSError, ValueError, SyntaxError, EOFError, struct.error, KeyError, IndexError,
                 TypeError, OverflowError, AttributeError, ZeroDivisionError)  # fmt: skip


class Reason(StrEnum):
    """Why an image is rejected; a closed list."""

    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    TOO_MANY_PIXELS = "too_many_pixels"
    DAMAGED = "damaged"
    TOO_SMALL = "too_small"
    BLANK = "blank"
    DUPLICATE = "duplicate"
    CONFLICTING_LABELS = "conflicting_labels"


class Warn(StrEnum):
    """What was noticed about an image that is no reason to reject it."""

    WRONG_EXTENSION = "wrong_extension"
    ROTATED = "rotated"
    TRANSPARENCY_FLATTENED = "transparency_flattened"
    FIRST_FRAME_ONLY = "first_frame_only"
    CMYK_CONVERTED = "cmyk_converted"
    REDUCED_TO_8_BIT = "reduced_to_8_bit"


@dataclass(frozen=True)
class Header:
    """What a file says about itself before a pixel is decoded."""

    format: str
    """As Pillow names it: JPEG, PNG, ..."""
    width: int
    height: int
    """In pixels, before any rotation."""
    plain: bool
    """8-bit RGB, upright, one frame, opaque."""
    warnings: tuple[Warn, ...]


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


class Unreadable(Exception):
    """The bytes cannot become pixels, and why."""

    def __init__(self, reason: Reason, format: str = "") -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.format = format


def judge(data: bytes, limits: Filter) -> Judgement:
    """Decode `data` once and say whether to keep it, and what to store."""
    try:
        header, pixels = load(data, limits.max_megapixels, limits.store_side)
    except Unreadable as error:
        return Judgement(error.reason, error.format)
    rejected = _look(header, pixels, limits.min_side)
    if rejected:
        return Judgement(rejected, header.format, header.warnings)
    as_is = header.plain and min(header.width, header.height) <= limits.store_side
    return Judgement(
        None, header.format, header.warnings, pixels.shape[1], pixels.shape[0],
        perceptual_hash(pixels), None if as_is else _encode(pixels, data, header.format),
    )  # fmt: skip


def load(data: bytes, max_megapixels: float, side: int) -> tuple[Header, Pixels]:
    """Bytes from anywhere become upright pixels whose shorter side is at most `side`.

    Raises:
        Unreadable: with the reason, closed over `Reason`.
    """
    if not data:
        raise Unreadable(Reason.EMPTY)
    header = read_header(data)
    if header.width * header.height > max_megapixels * 1e6:
        raise Unreadable(Reason.TOO_MANY_PIXELS, header.format)
    if header.format in JPEGS and not _is_sound_jpeg(data):
        raise Unreadable(Reason.DAMAGED, header.format)
    flattened = Warn.TRANSPARENCY_FLATTENED in header.warnings
    pixels = _decode_transparent(data) if flattened else _decode(data)
    if pixels is None:
        raise Unreadable(Reason.DAMAGED, header.format)
    return header, _shrink(pixels, side)


def decode(data: bytes) -> Pixels:
    """The pixels of a stored image, one that `judge` has kept."""
    pixels = _decode(data)
    if pixels is None:
        raise ValueError("a stored image does not decode: the clean shards are damaged")
    return pixels


def read_header(data: bytes) -> Header:
    """What the header says, without decoding.

    Raises:
        Unreadable: `NOT_AN_IMAGE`, by content and not by name.
    """
    try:
        with warnings.catch_warnings(record=True) as odd:  # of malformed metadata
            warnings.simplefilter("always")
            with Image.open(io.BytesIO(data), formats=OPENED) as image:
                form = image.format or ""
                orientation = _orientation(image)
                frames = form not in JPEGS and bool(getattr(image, "is_animated", False))
                mode, width, height = image.mode, image.width, image.height
                transparent = mode in {"RGBA", "LA", "PA"} or "transparency" in image.info
                deep = _is_deep(image, data)
    except HEADER_ERRORS as error:
        raise Unreadable(Reason.NOT_AN_IMAGE) from error
    noticed = {
        Warn.ROTATED: orientation in range(2, 9),
        Warn.TRANSPARENCY_FLATTENED: transparent,
        Warn.FIRST_FRAME_ONLY: frames,
        Warn.CMYK_CONVERTED: mode == "CMYK",
        Warn.REDUCED_TO_8_BIT: deep,
    }
    noted = tuple(warning for warning, seen in noticed.items() if seen)
    plain = form in {"JPEG", "PNG"} and mode == "RGB" and not (noted or odd)
    return Header(form, width, height, plain, noted)


def _orientation(image: Image.Image) -> int:
    """The EXIF tag as OpenCV reads it. Pillow's getexif would decode a PNG to look behind it."""
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2.get(ORIENTATION, 1))
    exif = Image.Exif()
    exif.load(image.info.get("exif", b""))
    return int(exif.get(ORIENTATION, 1))


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Whether there are more than 8 bits per channel."""
    if isinstance(image, TiffImageFile):
        return bool(max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))) > 8)
    return image.mode[0] in "IF" or (image.format == "PNG" and data[24:25] == b"\x10")


def has_wrong_extension(name: str, form: str) -> bool:
    """Whether a file called `name` holds another format than its extension promises."""
    return PurePosixPath(name).suffix.lower() not in EXTENSIONS.get(form, set())


def _is_sound_jpeg(data: bytes) -> bool:
    """Whether every byte of entropy-coded data is there and makes sense.

    At an eighth of the scale: the entropy decoding, where damage shows, is whole all the same.
    """
    try:
        _, _, colours, _ = simplejpeg.decode_jpeg_header(data)
        # fastdct changes pixels that nobody looks at here.
        simplejpeg.decode_jpeg(
            data, colorspace="CMYK" if colours in {"CMYK", "YCCK"} else "RGB",
            fastdct=True, fastupsample=True, min_height=1, min_width=1, strict=True,
        )  # fmt: skip
    except ValueError:
        return False
    return True


def _decode(data: bytes) -> Pixels | None:
    """Upright RGB through OpenCV, which applies the EXIF orientation."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        return None
    if pixels is None or pixels.dtype != np.uint8:
        return None
    return pixels.astype(np.uint8, copy=False)


def _decode_transparent(data: bytes) -> Pixels | None:
    """Upright RGB laid on white, through Pillow: OpenCV knows alpha only as a fourth channel."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=OPENED) as image:
            warnings.simplefilter("ignore")
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except HEADER_ERRORS:
        return None
    white = Image.new("RGBA", upright.size, "white")
    return np.array(Image.alpha_composite(white, upright).convert("RGB"))


def _look(header: Header, pixels: Pixels, min_side: int) -> Reason | None:
    if min(header.width, header.height) < min_side:
        return Reason.TOO_SMALL
    if (pixels == pixels[0, 0]).all():
        return Reason.BLANK
    return None


def _shrink(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    if min(height, width) <= side:
        return pixels
    scale = side / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _encode(pixels: Pixels, original: bytes, form: str) -> bytes:
    """A PNG where the source was lossless, else a JPEG."""
    lossless = form in {"PNG", "GIF", "BMP", "TIFF"} or original[12:16] == b"VP8L"
    options = [] if lossless else [cv2.IMWRITE_JPEG_QUALITY, 95]
    _, data = cv2.imencode(".png" if lossless else ".jpg", pixels[:, :, ::-1], options)
    return data.tobytes()


def perceptual_hash(pixels: Pixels) -> int:
    """64 bits that barely change when an image is scaled or re-encoded.

    The signs of the 64 lowest frequencies around their median.
    Source: Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions (2010).
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    bits = low > np.median(low)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
