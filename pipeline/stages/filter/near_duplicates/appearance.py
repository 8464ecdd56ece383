"""What is remembered of an image to find copies of it that were cropped, mirrored or captioned.

Square patches, a good half of the shorter side, lie around the strongest blobs, wherever these
are. So a copy has most of the patches that its original has, with the same 63 bits each. Six
scales, 7 % apart, make up for the scale that a crop or a frame changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.images.pixels import Grey

MIN_SIDE = 64  # pixels, of an image; smaller ones are alike by nature: digits, icons
MAX_RATIO = 4  # of the sides
PATCH = 25  # pixels; odd, so that a mirrored image has the same patches
MARGIN = PATCH // 2
SCALES = tuple(round(44 * 1.07**step) for step in range(6))  # pixels of the shorter side
PER_SCALE = 12  # patches, at most
MIN_CONTRAST = 2.0  # grey levels by which a blob stands out
THUMBNAIL = 48  # pixels of the shorter side
MIN_DETAIL = 0.6  # share of an image with detail; objects before an even ground look alike
MIN_SLOPE = 2.0  # grey levels per pixel of the reduced image, where there is detail
REDUCED = 64  # pixels of the shorter side that the scales are made from

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.intp]

_ORDERED = sorted(
    ((down, across) for down in range(8) for across in range(8)),
    key=lambda frequency: (frequency[0] ** 2 + frequency[1] ** 2, frequency[0]),
)[1:]
_DOWN, _ACROSS = (np.array(axis) for axis in zip(*_ORDERED, strict=True))
_FIRST_ACROSS = _ORDERED.index((0, 1))
_COSINES = np.cos(np.pi / PATCH * np.outer(np.arange(8), np.arange(PATCH) + 0.5)).astype(np.float32)
_IS_ODD = _ACROSS % 2 == 1
_NEIGHBOURS = np.ones((3, 3), np.uint8)

PLACE = np.dtype([("scale", "u1"), ("y", "u1"), ("x", "u1"), ("mirrored", "u1")])
"""Of a patch: its scale's position in `SCALES`; the pixels there, of its upper left corner; whether
its hash is that of its mirror image."""


@dataclass(frozen=True)
class Appearance:
    """Bytes of arrays, all empty for an image without patches."""

    patch_hashes: bytes = b""
    """uint64, for each patch; of a patch and its mirror image the same."""
    patch_places: bytes = b""
    """`PLACE`, for each patch."""
    thumbnail: bytes = b""
    """uint8 rows: the image in grey, with a shorter side of `THUMBNAIL`."""


NONE = Appearance()


def describe(grey: Grey) -> Appearance:
    """Describe a grey image (height, width)."""
    short, long = sorted(grey.shape)
    if short < MIN_SIDE or long > MAX_RATIO * short:
        return NONE
    reduced = _resize(grey, REDUCED, cv2.INTER_AREA).astype(np.float32)
    if _share_with_detail(reduced) < MIN_DETAIL:
        return NONE
    scaled = [_resize(reduced, side, cv2.INTER_LINEAR) for side in SCALES]
    canvas, tops = _stack(scaled)
    scales, rows, columns = _find_blobs(canvas, tops, [pixels.shape[1] for pixels in scaled])
    if not len(rows):
        return NONE
    hashes, is_mirrored = _hash_patches(_windows(canvas)[rows, columns])
    places = np.empty(len(rows), PLACE)
    places["scale"], places["y"], places["x"] = scales, rows - tops[scales], columns
    places["mirrored"] = is_mirrored
    thumbnail = _resize(reduced, THUMBNAIL, cv2.INTER_LINEAR).round().astype(np.uint8)
    return Appearance(hashes.tobytes(), places.tobytes(), thumbnail.tobytes())


def _stack(scaled: Sequence[Floats]) -> tuple[Floats, Positions]:
    """The image at all scales, one below the other, and the first row of each.

    One call of OpenCV for all of them takes a third of the time of one for each.
    """
    heights = [len(pixels) for pixels in scaled]
    tops = np.cumsum([0, *heights[:-1]])
    canvas = np.zeros((sum(heights), max(pixels.shape[1] for pixels in scaled)), np.float32)
    for top, pixels in zip(tops, scaled, strict=True):
        canvas[top : top + len(pixels), : pixels.shape[1]] = pixels
    return canvas, tops


def _resize(grey: npt.NDArray[Any], side: int, method: int) -> npt.NDArray[Any]:
    """Scale to a shorter side of `side`."""
    height, width = grey.shape
    scale = side / min(height, width)
    size = (round(width * scale), round(height * scale))
    return cv2.resize(grey, size, interpolation=method).astype(grey.dtype, copy=False)


def _share_with_detail(pixels: Floats) -> float:
    """The share of the squares, about eight along the shorter side, that are not even."""
    across = (pixels[1:-1, 2:] - pixels[1:-1, :-2]) / 2
    down = (pixels[2:, 1:-1] - pixels[:-2, 1:-1]) / 2
    squares = _resize(across**2 + down**2, 8, cv2.INTER_AREA)
    return float((squares > MIN_SLOPE**2).mean())


def _find_blobs(
    canvas: Floats, tops: Positions, widths: Sequence[int]
) -> tuple[Positions, Positions, Positions]:
    """The scales, and the upper left corners, of the patches around each scale's strongest blobs.

    Patches lie inside their scale, so that what is beside it on the canvas has no influence.
    """
    fine, coarse = cv2.GaussianBlur(canvas, (9, 9), 1.4), cv2.GaussianBlur(canvas, (13, 13), 2.2)
    strength = cv2.absdiff(fine, coarse)
    strongest_near = cv2.dilate(strength, _NEIGHBOURS)
    is_blob = (strength == strongest_near) & (strength > MIN_CONTRAST)
    rows, columns = np.divmod(np.flatnonzero(is_blob), canvas.shape[1])
    scales = np.searchsorted(tops, rows, side="right") - 1
    rows, columns = rows - MARGIN, columns - MARGIN
    bottoms = np.append(tops[1:], len(canvas))
    is_inside = (rows >= tops[scales]) & (rows + PATCH <= bottoms[scales])
    is_inside &= (columns >= 0) & (columns + PATCH <= np.array(widths)[scales])
    rows, columns, scales = rows[is_inside], columns[is_inside], scales[is_inside]
    order = np.lexsort((-strength[rows + MARGIN, columns + MARGIN], scales))
    firsts = np.searchsorted(scales, np.arange(len(tops)))
    best = order[np.arange(len(order)) - firsts[scales] < PER_SCALE]
    return scales[best], rows[best], columns[best]


def _windows(pixels: Floats) -> Floats:
    """All squares of `PATCH` pixels, by their upper left corners: a view.

    numpy's sliding_window_view takes ten times as long.
    """
    height, width = pixels.shape
    shape = (height - PATCH + 1, width - PATCH + 1, PATCH, PATCH)
    return np.lib.stride_tricks.as_strided(pixels, shape, pixels.strides * 2, writeable=False)


def _hash_patches(patches: Floats) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """The signs of the lowest frequencies, and whether they are those of the mirror image.

    The mirror image has the opposite sign where a frequency across is odd. Of both, the one where
    the lowest of these is positive is hashed.

    Args:
        patches: (N, PATCH, PATCH).
    """
    waves = (_COSINES @ patches @ _COSINES.T)[:, _DOWN, _ACROSS]
    is_mirrored = waves[:, _FIRST_ACROSS] < 0
    signs = (waves > 0) ^ (is_mirrored[:, None] & _IS_ODD)
    codes = np.packbits(signs, axis=1).view(">u8")[:, 0] >> np.uint64(1)
    return codes.astype(np.uint64), is_mirrored
