"""How much of their 16 bits the samples of a PNG or TIFF use.

Microscopes, scanners and sensors measure 10, 12 or 14 bits, and some programs store them in 16
without scaling, so that white is 1023 or 4095 of 65535. Such a picture is nearly black. Its values
alone do not tell it from a dark one, so it is scaled only if the file says so.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.images.formats import png, tiff
from pipeline.images.header import Header, Warn, visible_data
from pipeline.images.opencv_decoding import decode_deep
from pipeline.images.pixels import Pixels

DEEP_BITS = 16
BITS = range(8, DEEP_BITS)  # that a file may name
LOW_BITS = 14  # the most that common sensors have
STRIP_ROWS = 256


@dataclass(frozen=True)
class SampleRange:
    """A picture that uses few of its 16 bits."""

    values: npt.NDArray[np.uint16]
    """Grey (H, W), or (H, W, channels) as OpenCV orders them."""
    bits: int | None
    """Of white, if the picture is opaque and the file says that its samples are not scaled."""

    @property
    def warning(self) -> Warn:
        return Warn.LOW_16_BIT if self.bits is None else Warn.SCALED_BY_BITS

    def scale(self) -> Pixels:
        """The opaque picture with the named white: RGB."""
        values, white = self.values, 2 ** (self.bits or DEEP_BITS) - 1
        pixels = np.empty((*values.shape[:2], 3), np.uint8)
        for start in range(0, len(values), STRIP_ROWS):  # in 32 bits, the whole takes much memory
            rows = values[start : start + STRIP_ROWS].astype(np.uint32)
            scaled = (rows * 255 + white // 2) // white
            is_grey = scaled.ndim == 2
            pixels[start : start + STRIP_ROWS] = (
                scaled[:, :, None] if is_grey else scaled[:, :, 2::-1]
            )
        return pixels


def measure(header: Header, data: bytes) -> SampleRange | None:
    """The range of a picture of few bits; None for others, and for those of another format."""
    is_deep = header.format in {"PNG", "TIFF"} and Warn.REDUCED_TO_8_BIT in header.warnings
    if not is_deep or header.mode not in {"L", "RGB"}:
        return None
    values = decode_deep(visible_data(header.format, data))
    if values is None:
        return None
    colours = values if values.ndim == 2 else values[:, :, :3]
    largest = int(colours.max())
    bits = _named_bits(header.format, data)
    is_named = bits is not None and largest < 2**bits
    if not is_named and largest >= 2**LOW_BITS:
        return None
    if bits and is_named and header.format == "PNG" and _is_scaled(colours, bits):
        return None
    is_opaque = Warn.TRANSPARENCY_FLATTENED not in header.warnings
    return SampleRange(values, bits if is_named and is_opaque else None)


def _named_bits(form: str, data: bytes) -> int | None:
    """The bits that the file names as those of its samples.

    The largest sample of a TIFF is often that of the picture. Only one that a number of bits
    allows, such as 4095, is taken for white.
    """
    if form == "PNG":
        bits = png.read_significant_bits(data)
        return bits if bits in BITS else None
    directories = tiff.read_tiff(data)
    white = directories.max_sample if directories else 0
    bits = white.bit_length()
    return bits if bits in BITS and white == 2**bits - 1 else None


def _is_scaled(values: npt.NDArray[np.uint16], bits: int) -> bool:
    """Whether samples were scaled to 16 bits, as PNG demands, so that the picture is a dark one.

    The lower bits are then zero, or, by rounding, one, since those that they may repeat are zero.
    """
    return int((values & (2 ** (DEEP_BITS - bits) - 1)).max()) <= 1
