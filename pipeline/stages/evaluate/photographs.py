"""Test images for the pictures and the report, each with its prediction."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.images.pixels import Pixels

MAX_SIDE = 256  # pixels


@dataclass(frozen=True)
class PicturedSample:
    """A test image and its prediction."""

    pixels: Pixels
    """Of at most `MAX_SIDE` pixels each way."""
    predicted: str
    true: str
    probability: float
    """Of the predicted class."""


def shrink(pixels: Pixels, side: int = MAX_SIDE) -> Pixels:
    """The image scaled down to at most `side` pixels each way."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    return np.asarray(image)
