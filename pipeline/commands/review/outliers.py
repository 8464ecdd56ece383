"""Images that are unlike all others, by the features of the network.

After Kuan and Mueller (2022, arXiv 2207.03061): an image's mean distance to its nearest neighbours,
and cleanlab's limit for it. The neighbours are looked for among a sample, so that the time grows
with the images, not with their square.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pipeline.core.progress import bar
from pipeline.inference.pooled_features import Features, normalised

NEIGHBOURS = 10
MAX_SAMPLE = 5000  # images
MAX_SAMPLE_BYTES = 2**28
MAX_RANGES = 1.7  # interquartile ranges above the third quartile; cleanlab's 1 / 0.37037 - 1

Rows = npt.NDArray[np.int64]
Values = npt.NDArray[np.float32]


def mean_distances(features: Features, count: int) -> Values:
    """Mean cosine distance (N,) of each image to its nearest neighbours in the sample.

    Args:
        count: Number of images: the features' rows.
    """
    sample_rows, sample = _read_sample(features, count)
    neighbours = min(NEIGHBOURS, len(sample_rows) - 1)
    distances = np.zeros(count, np.float32)
    if neighbours < 1:
        return distances
    with bar("review: outliers", count) as progress:
        for rows in _blocks(count, features.block_rows):
            similar = normalised(features.read(rows)) @ sample.T
            similar[rows[:, None] == sample_rows] = -np.inf  # not an image's own neighbour
            nearest = np.partition(similar, -neighbours, axis=1)[:, -neighbours:]
            distances[rows] = 1 - nearest.mean(axis=1)
            progress.update(len(rows))
    return distances


def find_outliers(distances: Values) -> Rows:
    """The rows of outliers, the furthest first."""
    if not len(distances):
        return np.zeros(0, np.int64)
    first, third = np.quantile(distances, [0.25, 0.75])
    rows = np.flatnonzero(distances > third + MAX_RANGES * (third - first))
    return rows[np.argsort(-distances[rows], kind="stable")].astype(np.int64)


def _blocks(count: int, size: int) -> Iterator[Rows]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def _read_sample(features: Features, count: int) -> tuple[Rows, Values]:
    """Rows of a sample, and their features."""
    rows = features.thin(np.arange(count), MAX_SAMPLE, MAX_SAMPLE_BYTES)
    return rows, normalised(features.read_apart(rows))
