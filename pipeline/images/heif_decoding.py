"""Decode HEIC with libheif, and AVIF with Pillow's libavif; both on one thread per image."""

import io
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.images.header import Header, RejectReason, Unreadable
from pipeline.images.pillow_decoding import CannotDecode, Mode, decode_with_pillow

HEIF_FORMATS = {"HEIF", "AVIF"}
HEIF_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    RuntimeError,
    IndexError,
)  # of damaged files, as fuzzing has it


def decode_heif(header: Header, data: bytes, mode: Mode) -> npt.NDArray[np.uint8]:
    """Decode the main picture or the first frame: (H, W, channels).

    A HEIC comes upright; an AVIF as it is stored.

    Raises:
        Unreadable: it is damaged.
    """
    try:
        return _decode_heic(data, mode) if header.format == "HEIF" else _decode_avif(data, mode)
    except (CannotDecode, *HEIF_ERRORS) as error:
        raise Unreadable(RejectReason.DAMAGED, header.format) from error


def _decode_avif(data: bytes, mode: Mode) -> npt.NDArray[np.uint8]:
    from PIL import AvifImagePlugin  # few images need it

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # images are the unit of parallelism
    return decode_with_pillow(data, mode)


def _decode_heic(data: bytes, mode: Mode) -> npt.NDArray[np.uint8]:
    file = _pillow_heif().HeifFile(io.BytesIO(data))
    picture = file[file.primary_index]
    size = picture.size
    pixels = bytes(picture.data)
    if picture.size != size:  # libheif has decoded another picture than the boxes describe
        raise ValueError("the size of the picture differs from its description")
    image = Image.frombytes(picture.mode, size, pixels, "raw", picture.mode, picture.stride)
    return np.array(image if image.mode == mode else image.convert(mode))


@cache
def _pillow_heif() -> Any:
    """The library, which few stages need, without what is not decoded."""
    import pillow_heif

    options = pillow_heif.options
    options.DECODE_THREADS = 1
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    return pillow_heif
