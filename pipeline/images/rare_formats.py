"""Decode BMP, GIF and TIFF, of which every decoder misreads some kinds.

Pillow decodes. OpenCV is a second opinion wherever Pillow itself is lenient; where the two differ,
the file is unsupported.
"""

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.images.formats import bmp, gif, tiff
from pipeline.images.formats.tiff import Tiff
from pipeline.images.header import Header, RejectReason, Unreadable
from pipeline.images.opencv_decoding import check_memory, decode_with_opencv
from pipeline.images.pillow_decoding import CannotDecode, Mode, decode_with_pillow
from pipeline.images.pixels import Pixels

RARE_FORMATS = {"BMP", "GIF", "TIFF"}
MAX_DIFFERENCE = 3  # of 255, on average: decoders round and interpolate colours differently


def decode_rare(header: Header, data: bytes, mode: Mode) -> npt.NDArray[np.uint8]:
    """Decode with Pillow: (H, W, channels), upright by the TIFF's own tag.

    Raises:
        Unreadable: damaged, or a kind whose pixels are uncertain.
    """
    try:
        pixels = decode_with_pillow(data, mode)
        rgb = pixels if mode != "CMYK" else decode_with_pillow(data, "RGB")
    except CannotDecode as error:
        raise Unreadable(_blame(header.format, data), header.format) from error
    reason = _doubt(header, data, rgb)
    if reason:
        raise Unreadable(reason, header.format)
    return pixels


def _blame(form: str, data: bytes) -> RejectReason:
    """Why Pillow refuses it: because of its kind, if its structure is whole."""
    if form == "BMP":
        header = bmp.read_bmp_header(data)
        is_other_kind = header is not None and header.is_whole
    else:
        directories = tiff.read_tiff(data) if form == "TIFF" else None
        is_other_kind = directories is not None and (
            directories.first.is_within(len(data))
            and (not directories.is_known_to_opencv or _is_read_as_it_is(directories, data))
        )
    return RejectReason.UNSUPPORTED if is_other_kind else RejectReason.DAMAGED


def _is_read_as_it_is(directories: Tiff, data: bytes) -> bool:
    """Whether OpenCV reads uncompressed samples, none of which can be damaged."""
    return directories.is_uncompressed and decode_with_opencv(data) is not None


def _doubt(header: Header, data: bytes, pixels: npt.NDArray[np.uint8]) -> RejectReason | None:
    """Why the pixels that Pillow decodes, RGB or RGBA, are not to be trusted."""
    if header.format == "BMP" and bmp.has_certain_pixels(data):
        return None  # OpenCV ignores masks and lengths of headers, and scrambles padded rows
    second = decode_with_opencv(data)
    if second is not None:
        return None if _agree(pixels, second) else RejectReason.UNSUPPORTED
    check_memory(header.width, header.height)
    if header.format == "GIF":
        if not gif.is_whole(data):
            return RejectReason.DAMAGED
        return RejectReason.UNSUPPORTED if gif.has_usual_palette(data) else None
    directories = tiff.read_tiff(data) if header.format == "TIFF" else None
    is_raw = directories is not None and directories.is_uncompressed
    if directories and directories.is_known_to_opencv:
        is_whole = is_raw and directories.first.is_within(len(data))
        return RejectReason.UNSUPPORTED if is_whole else RejectReason.DAMAGED
    return None if is_raw else RejectReason.UNSUPPORTED


def _agree(pixels: npt.NDArray[np.uint8], second: Pixels) -> bool:
    """Whether opaque pixels are the same, up to rounding."""
    if pixels.shape[:2] != second.shape[:2]:
        return False
    if pixels.shape[2] == 3:
        return cv2.norm(pixels, second, cv2.NORM_L1) <= MAX_DIFFERENCE * pixels.size
    opaque = pixels[:, :, 3] == 255
    difference = cv2.absdiff(np.ascontiguousarray(pixels[:, :, :3]), second)[opaque]
    return not difference.size or float(difference.mean()) <= MAX_DIFFERENCE
