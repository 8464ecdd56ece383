"""Decode with OpenCV."""

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.images.pixels import Pixels

AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
DECODER_BYTES = 12  # per pixel, at most


@cache
def configure_opencv() -> None:
    """Set OpenCV's threads and log level for this process; repeated calls are free."""
    # Images are the unit of parallelism: threads within an image would compete for the cores.
    cv2.setNumThreads(0)
    cv2.utils.logging.setLogLevel(0)  # damage is reported by `Unreadable`


def decode_with_opencv(data: bytes, flags: int = AS_STORED) -> Pixels | None:
    """Decode the first frame, not turned; None if OpenCV cannot."""
    configure_opencv()
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    if pixels is None or pixels.dtype != np.uint8:
        return None
    return pixels.astype(np.uint8, copy=False)


def decode_deep(data: bytes) -> npt.NDArray[np.uint16] | None:
    """Decode 16-bit samples: grey (H, W), or BGR with or without alpha; None if there are none."""
    configure_opencv()
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if values is None or values.dtype != np.uint16:
        return None
    return values.astype(np.uint16, copy=False)


def check_memory(width: int, height: int) -> None:
    """Raise MemoryError if that may be why OpenCV, which does not report it, decoded nothing."""
    np.empty(DECODER_BYTES * width * height, np.uint8)
