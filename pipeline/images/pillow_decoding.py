"""Decode with Pillow what OpenCV decodes wrongly or not at all."""

import io
import warnings
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.images.pillow_settings import FORMATS, PILLOW_ERRORS, configure_pillow

Mode = Literal["L", "RGB", "RGBA", "CMYK", "LAB"]


class CannotDecode(Exception):
    """Pillow cannot decode the pixels: they are damaged, or of an unknown kind."""


def decode_with_pillow(data: bytes, mode: Mode) -> npt.NDArray[np.uint8]:
    """Decode the first frame: (H, W) for the mode L, otherwise (H, W, channels).

    Raises:
        CannotDecode: the data end too early, or are corrupt.
    """
    configure_pillow()
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(data), formats=FORMATS) as image,
        ):
            image.info.pop("xmp", None)  # Pillow would turn a TIFF by it; `turn` does that
            if image.mode.startswith("I;16"):
                return _deep_grey(image, mode)
            return np.array(image if image.mode == mode else image.convert(mode))
    except PILLOW_ERRORS as error:
        raise CannotDecode from error


def _deep_grey(image: Image.Image, mode: Mode) -> npt.NDArray[np.uint8]:
    """Reduce 16-bit grey, with or without a transparent value; Pillow would clip at 255."""
    values = np.array(image)
    grey = (values >> 8).astype(np.uint8)
    if mode == "L":
        return grey
    alpha = np.where(values == image.info.get("transparency", -1), 0, 255).astype(np.uint8)
    return np.dstack([grey] * 3 + ([alpha] if mode == "RGBA" else []))
