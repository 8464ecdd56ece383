"""The distance to the classes, fitted to training images."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from pipeline.network.abstention import Distance
from pipeline.stages.train.conformal import Floats, Numbers

DIRECTIONS = 128  # in which the covariance is known in full; 0.7 MB with 1,280 features
IMAGES_EACH = 8  # training images at least for each direction, or its variance is mostly chance
EXTRA = 16  # directions more, while they are searched
ROUNDS = 8  # of the search
LEAST_SHARE = 1e-3  # of the mean variance: the least in a direction, so that it can be inverted
LEAST_VARIANCE = 1e-12  # where features do not vary at all


def fit(batches: Iterable[tuple[Tensor, Tensor]], classes: int) -> Distance:
    """A mean for each class that has images, and one covariance for all.

    The covariance is that of probabilistic principal components: in its `DIRECTIONS` largest
    directions as measured, in all others their mean variance. So it needs a tenth of the space, and
    can be inverted where there are fewer images than features. Source: M. Tipping and C. Bishop,
    "Probabilistic principal component analysis" (1999).

    Args:
        batches: Inputs of the last layer, (B, F), and labels, (B,).
    """
    moments = _Moments(classes)
    for inputs, labels in batches:
        moments.add(inputs.double().numpy(), labels.numpy())
    covariance = moments.covariance()
    width, mean = len(covariance), float(np.trace(covariance)) / len(covariance)
    number = min(DIRECTIONS, width - 1, moments.count // IMAGES_EACH)
    variances, directions = _largest(covariance, number)
    rest = (mean * width - variances.sum()) / (width - len(variances))
    rest = max(rest, LEAST_SHARE * mean, LEAST_VARIANCE)
    weights = 1 - rest / np.maximum(variances, rest)
    values = moments.means(), directions, np.append(weights, 1 / rest)
    names = ("means", "directions", "weights")
    tensors = [torch.from_numpy(np.ascontiguousarray(value)).float() for value in values]
    return Distance(dict(zip(names, tensors, strict=True)))


class _Moments:
    """Sums by class and of products, float64, about the mean of the first batch."""

    def __init__(self, classes: int) -> None:
        self._counts = np.zeros(classes)
        self._origin: Floats = np.zeros(0)

    @property
    def count(self) -> int:
        return int(self._counts.sum())

    def add(self, values: Floats, labels: Numbers) -> None:
        if not self._origin.size:
            width = values.shape[1]
            self._origin = values.mean(axis=0)
            self._sums = np.zeros((len(self._counts), width))
            self._products = np.zeros((width, width))
        shifted = values - self._origin
        np.add.at(self._sums, labels, shifted)
        self._counts += np.bincount(labels, minlength=len(self._counts))
        self._products += shifted.T @ shifted

    def means(self) -> Floats:
        """(K, F)"""
        present = self._counts > 0
        return self._origin + self._sums[present] / self._counts[present, None]

    def covariance(self) -> Floats:
        """(F, F) Within the classes."""
        present = self._counts > 0
        sums = self._sums[present] / np.sqrt(self._counts[present, None])
        return (self._products - sums.T @ sums) / self.count


def _largest(covariance: Floats, number: int) -> tuple[Floats, Floats]:
    """The largest variances, (D,), and their directions, (D, F), by subspace iteration.

    Source: N. Halko et al., "Finding structure with randomness" (2011).
    """
    width = len(covariance)
    columns = min(width, number + EXTRA)
    basis = np.random.default_rng(0).normal(size=(width, columns))
    for _ in range(ROUNDS):
        basis, _ = np.linalg.qr(covariance @ basis)
    variances, rotation = np.linalg.eigh(basis.T @ covariance @ basis)
    order = np.argsort(-variances)[:number]
    return np.maximum(variances[order], 0), (basis @ rotation[:, order]).T
