"""A hash of what a picture looks like: it barely changes with scale and encoding."""

import cv2
import numpy as np
import numpy.typing as npt

SIDE = 32  # pixels, of the picture that is hashed
FREQUENCIES = 8  # per axis: 64 bits


def perceptual_hash(grey: npt.NDArray[np.uint8]) -> int:
    """64 bits of a grey picture (height, width).

    The signs of the 64 lowest frequencies around their median.
    Source: Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions (2010).
    """
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:FREQUENCIES, :FREQUENCIES].ravel()
    middle = np.sort(low)[len(low) // 2 - 1 : len(low) // 2 + 1]
    bits = low > middle.mean()  # numpy's median loads masked arrays: a tenth of a second a worker
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
