"""A perceptual hash: similar images have similar hashes, whatever their size and encoding."""

import cv2
import numpy as np
import numpy.typing as npt

SIDE = 32  # pixels, of the image that is hashed
FREQUENCIES = 8  # per axis: 64 bits


def perceptual_hash(grey: npt.NDArray[np.uint8]) -> int:
    """Hash a grey image (height, width) to 64 bits.

    A bit for each of the 64 lowest frequencies: whether it is above their median.
    Source: Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions (2010).
    """
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:FREQUENCIES, :FREQUENCIES].ravel()
    middle = np.sort(low)[len(low) // 2 - 1 : len(low) // 2 + 1]
    bits = low > middle.mean()  # np.median imports numpy.ma: 0.1 s per worker
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
