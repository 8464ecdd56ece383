"""How well the probabilities of a class rank its images before all others.

These are scikit-learn's `roc_auc_score`, `average_precision_score`, `roc_curve` and
`precision_recall_curve`, to the last bit, from one sort: importing scikit-learn takes longer than
a small evaluation, and its checks take longer than the sort where there are thousands of classes.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Selected = npt.NDArray[np.bool_]  # (N,)
RESOLUTION = 600  # pixels: the width of the largest drawing of a curve


@dataclass(frozen=True)
class Curve:
    """One point per threshold."""

    x: Floats
    y: Floats

    def thinned(self) -> "Curve":
        """Without points that a drawing of `RESOLUTION` pixels a side cannot show.

        Of consecutive points in one column of pixels the first, the lowest, the highest and the
        last stay, so that no part of the curve moves by more than a pixel.
        """
        column = np.floor(self.x * RESOLUTION).astype(np.int64)
        ends = np.flatnonzero(np.diff(column)) + 1
        starts = np.concatenate([[0], ends])
        stops = np.concatenate([ends, [len(column)]]) - 1
        indices = np.unique([*starts, *stops, *self._extremes(starts, stops)])
        return Curve(self.x[indices], self.y[indices])

    def _extremes(self, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]) -> list[int]:
        """Indices of the lowest and the highest point of runs with more than two points."""
        return [
            int(start + extreme(self.y[start : stop + 1]))
            for start, stop in zip(starts, stops, strict=True)
            if stop - start > 1
            for extreme in (np.argmin, np.argmax)
        ]


@dataclass(frozen=True)
class Ranking:
    """The images by the probability of one class, the highest first."""

    true_positives: Floats
    """(T,) Images of the class at or above each threshold."""
    false_positives: Floats
    """(T,) Other images at or above each threshold."""

    @cached_property
    def roc(self) -> Curve:
        """False positive rate (x) and true positive rate (y), without points on straight lines."""
        false, true = self.false_positives, self.true_positives
        if len(false) > 2:
            bends = (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0)
            corners = np.concatenate([[True], bends, [True]])
            false, true = false[corners], true[corners]
        false, true = (np.concatenate([[0.0], values]) for values in (false, true))
        return Curve(false / false[-1], true / true[-1])

    @cached_property
    def precision_recall(self) -> Curve:
        """Recall (x), falling, and precision (y): the first and last point of each recall."""
        false, true = self.false_positives, self.true_positives
        if len(false) > 2:
            changes = (np.diff(true[:-1]) != 0) | (np.diff(true[1:]) != 0)
            corners = np.concatenate([[True], changes, [True]])
            false, true = false[corners], true[corners]
        return _precision_recall(false, true)

    @cached_property
    def roc_auc(self) -> float:
        return float(np.trapezoid(self.roc.y, self.roc.x))

    @cached_property
    def average_precision(self) -> float:
        curve = _precision_recall(self.false_positives, self.true_positives)
        return float(max(0.0, -np.sum(np.diff(curve.x) * curve.y[:-1])))


def rank(positive: Selected, scores: Floats) -> Ranking:
    """The ranking of (N,) images by `scores`; some of them, and not all, are of the class."""
    order = np.argsort(-scores)  # the order of equal scores does not matter
    ordered = scores[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # of equal scores
    true = np.cumsum(positive[order], dtype=np.float64)[last]
    return Ranking(true, 1 + last - true)


def _precision_recall(false: Floats, true: Floats) -> Curve:
    precision, recall = true / (true + false), true / true[-1]
    return Curve(np.append(recall[::-1], 0.0), np.append(precision[::-1], 1.0))
