"""Folds of nearly the same class shares, in which groups stay whole.

The folds are those of scikit-learn's StratifiedGroupKFold, which needs a table of groups by
classes (8 GB for a million groups of a thousand classes) and time for each of its cells.
"""

import numpy as np
import numpy.typing as npt

from pipeline.core.columns import CHUNK

Labels = npt.NDArray[np.int64]
Folds = npt.NDArray[np.int8]


def stratified_folds(labels: Labels, groups: Labels, count: int, seed: int = 0) -> Folds:
    """The fold of each image.

    The groups with the most uneven classes choose first, in random order where they are equal:
    each takes the fold in which the shares of its classes then differ the least between folds.

    Args:
        labels: Classes, numbered from 0 without a gap.
        groups: Groups, numbered from 0 without a gap.
    """
    classes = int(labels.max()) + 1
    pairs, sizes = np.unique(groups * classes + labels, return_counts=True)
    pair_groups, pair_labels = np.divmod(pairs, classes)
    starts = np.searchsorted(pair_groups, np.arange(int(groups.max()) + 2))
    shuffled = np.arange(len(starts) - 1)
    np.random.RandomState(seed).shuffle(shuffled)
    spread = _spread(pair_groups, pair_labels, sizes, starts, classes)
    balance = _Balance(np.bincount(labels), count)
    folds = np.zeros(len(shuffled), np.int8)
    for group in shuffled[np.argsort(-spread[shuffled], kind="stable")]:
        rows = slice(starts[group], starts[group + 1])
        folds[group] = balance.assign(pair_labels[rows], sizes[rows])
    return folds[groups]


def _spread(
    groups: Labels, labels: Labels, sizes: Labels, starts: Labels, classes: int
) -> npt.NDArray[np.float64]:
    """(groups,) standard deviation of the images per class."""
    spread = np.zeros(len(starts) - 1)
    step = max(1, 100 * CHUNK // classes)  # groups in a table of some megabytes
    for first in range(0, len(spread), step):
        last = min(first + step, len(spread))
        rows = slice(starts[first], starts[last])
        table = np.zeros((last - first, classes))
        table[groups[rows] - first, labels[rows]] = sizes[rows]
        spread[first:last] = table.std(axis=1)
    return spread


class _Balance:
    """The images of each class in each fold."""

    def __init__(self, totals: Labels, count: int) -> None:
        self._totals = totals
        self._counts = np.zeros((count, len(totals)))
        self._images = np.zeros(count)
        self._deviations = np.zeros(len(totals))  # of the shares of each class over folds

    def assign(self, labels: Labels, sizes: Labels) -> int:
        """Add a group to the fold that it unbalances least, or of several to the smallest."""
        best, least, fewest = 0, np.inf, np.inf
        deviations = self._deviations.copy()
        for fold, images in enumerate(self._images):
            deviations[labels] = self._deviations_with(fold, labels, sizes)
            value = deviations.mean()
            is_equal = abs(value - least) <= 1e-8 + 1e-5 * least < np.inf
            if value < least or (is_equal and images < fewest):
                best, least, fewest = fold, value, images
        self._deviations[labels] = self._deviations_with(best, labels, sizes)
        self._counts[best, labels] += sizes
        self._images[best] += sizes.sum()
        return best

    def _deviations_with(self, fold: int, labels: Labels, sizes: Labels) -> npt.NDArray[np.float64]:
        counts = self._counts[:, labels]
        counts[fold] += sizes
        deviations: npt.NDArray[np.float64] = (counts / self._totals[labels]).std(axis=0)
        return deviations
