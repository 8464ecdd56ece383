"""Maps of features, averaged over the image: of shape (N, C, H, W) or, as in swin, (N, H, W, C)."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

Features = TypeVar("Features", npt.NDArray[np.float32], Tensor)


def average_maps(features: Features) -> Features:
    """(N, D) Features of N images: maps are averaged over the image, other features flattened.

    The input is square, so maps are too. Where all three sizes are equal, channels are first.
    """
    if features.ndim == 4:
        _, first, second, third = features.shape
        features = features.mean((1, 2) if first == second != third else (2, 3))
    return features.reshape(len(features), -1)
