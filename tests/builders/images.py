"""Encoded images."""

import cv2
import numpy as np


def grey_png(level: int) -> bytes:
    """40 by 40 pixels of one grey level."""
    return encode_png(np.full((40, 40, 3), level, np.uint8))


def noise_png(seed: int, height: int = 40, width: int = 48) -> bytes:
    """Random pixels, unlike those of another seed."""
    random = np.random.default_rng(seed)
    return encode_png(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encode_png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()
