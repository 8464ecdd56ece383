"""Folds of nearly the same class shares, in which groups stay whole.

The rule is that of scikit-learn's StratifiedGroupKFold, which takes time for each class of each
group, and a table of groups by classes (8 GB for a million groups of a thousand classes). Here time
and memory grow with the number of images. Folds that rounding alone distinguishes are equal here.
"""

import numpy as np
import numpy.typing as npt

ROUNDING = 1e-9  # of a sum of standard deviations

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
    spread = _spread(pair_groups, sizes, classes)
    balance = _Balance(np.bincount(labels), count)
    folds = np.zeros(len(shuffled), np.int8)
    for group in shuffled[np.argsort(-spread[shuffled], kind="stable")]:
        rows = slice(starts[group], starts[group + 1])
        folds[group] = balance.assign(pair_labels[rows], sizes[rows])
    return folds[groups]


def _spread(groups: Labels, sizes: Labels, classes: int) -> Labels:
    """(groups,) variance of the images per class, times the square of the number of classes.

    In whole numbers, so that equal groups are equal whichever classes they have.
    """
    squares = np.zeros(int(groups.max()) + 1, np.int64)
    totals = np.zeros_like(squares)
    np.add.at(squares, groups, sizes**2)
    np.add.at(totals, groups, sizes)
    return classes * squares - totals**2


class _Balance:
    """The images of each class in each fold."""

    def __init__(self, totals: Labels, count: int) -> None:
        self._totals = totals
        self._counts = np.zeros((count, len(totals)))
        self._images = np.zeros(count)

    def assign(self, labels: Labels, sizes: Labels) -> int:
        """Add a group to the fold that it unbalances least, or of several to the smallest."""
        shares = self._counts[:, labels] / self._totals[labels]
        added = np.eye(len(shares))[:, :, None] * (sizes / self._totals[labels])
        deviations = (shares + added).std(axis=1).sum(axis=1)  # if each fold had the group
        is_least = deviations <= deviations.min() + ROUNDING
        best = int(np.argmin(np.where(is_least, self._images, np.inf)))
        self._counts[best, labels] += sizes
        self._images[best] += sizes.sum()
        return best
