"""How far images are from the training images, by the features of the network."""

import numpy as np

from pipeline.commands.drift.sample import Floats, Values
from pipeline.commands.review.outliers import NEIGHBOURS
from pipeline.inference.pooled_features import normalised

FAR = 0.05  # share of held-out images that are as far away as an image that counts as far
MIN_HELD_OUT = 19  # with fewer, no image can be that far
BLOCK = 1024  # images whose distances are in memory at a time


def mean_distances(values: Values, training: Values) -> Floats:
    """Mean cosine distance (N,) of images to their nearest neighbours among training images."""
    sample = normalised(training)
    neighbours = min(NEIGHBOURS, len(sample))
    distances = np.zeros(len(values))
    for start in range(0, len(values), BLOCK):
        similar = normalised(values[start : start + BLOCK]) @ sample.T
        nearest = np.partition(similar, -neighbours, axis=1)[:, -neighbours:]
        distances[start : start + BLOCK] = 1 - nearest.mean(axis=1)
    return distances


def tail_shares(distances: Floats, others: Floats) -> Floats:
    """(N,) The share of `others` that are at least as far away as each image.

    The image itself counts too, so that an image that is like them has a share of at
    most x with a probability of at most x: a conformal p-value. Source: V. Vovk et al.,
    "Algorithmic learning in a random world" (2005).
    """
    ordered = np.sort(others)
    further = len(ordered) - np.searchsorted(ordered, distances, side="left")
    shares: Floats = (1 + further) / (1 + len(ordered))
    return shares
