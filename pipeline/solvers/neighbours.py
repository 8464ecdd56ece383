"""Nearest neighbours by cosine: a classifier without training, to compare others with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import PipelineError
from pipeline.solvers.problem import Floats, Numbers, Problem
from pipeline.solvers.row_blocks import equal_blocks, map_blocks, one_blas_thread

COUNTS = (1, 3, 5, 9, 15, 25)  # of neighbours
CELLS = 2**23  # similarities in memory at a time, per thread: 32 MB

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NeighboursFit:
    """Predictions for J judged rows by the nearest rows of other groups."""

    counts: Numbers
    """(L,) Numbers of neighbours that were tried, ascending."""
    accuracies: Floats
    """(L,)"""
    rows: Numbers
    """(J,) The judged rows, ascending."""
    predictions: Numbers
    """(J,) By the number of neighbours that was best."""
    is_right: Numbers
    """(J,) 1 where the prediction is right."""

    @property
    def count(self) -> int:
        """The number with the highest accuracy; of equal ones the smallest."""
        return int(self.counts[self.accuracies.argmax()])


def fit(problem: Problem, counts: Sequence[int] = COUNTS) -> NeighboursFit:
    """Predict each judged row from the rows of other groups; only judged rows are neighbours.

    The class with the most neighbours is predicted; of equal ones that with the nearer ones.

    Raises:
        PipelineError: a feature is not finite.
    """
    rows = np.flatnonzero(problem.is_judged)
    sorted_counts = np.array(sorted({min(count, len(rows) - 1) for count in counts}))
    values = _directions(problem, rows)

    def predict(places: Numbers) -> Numbers:
        nearest = _nearest(problem, rows, values, places, int(sorted_counts[-1]))
        return _votes(problem.labels[rows], nearest, sorted_counts, problem.classes)

    with one_blas_thread():
        blocks = equal_blocks(len(rows), max(1, CELLS // len(rows)))
        predictions = np.concatenate(list(map_blocks(predict, blocks)))
    is_right = predictions == problem.labels[rows, None]
    accuracies = is_right.mean(axis=0)
    best = int(accuracies.argmax())
    right = is_right[:, best].astype(np.int64)
    return NeighboursFit(sorted_counts, accuracies, rows, predictions[:, best], right)


def _directions(problem: Problem, rows: Numbers) -> Values:
    """(J, D) Rows of length 1, but zeros where a row is zero."""
    values = np.array(problem.features[rows], np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise PipelineError(
            "some features are not finite numbers: the network overflows, so set "
            "features.precision=32-true and features.dtype=float32, or use other weights"
        )
    values /= np.maximum(lengths, np.finfo(np.float32).tiny)
    return values


def _nearest(
    problem: Problem, rows: Numbers, values: Values, places: Numbers, count: int
) -> Numbers:
    """(B, count) Places of the nearest rows, the nearest first; -1 where there are no more."""
    similarities = values[places] @ values.T
    groups = problem.groups[rows]
    similarities[groups[places][:, None] == groups] = -np.inf
    nearest = np.sort(np.argpartition(-similarities, count - 1, axis=1)[:, :count], axis=1)
    nearness = np.take_along_axis(similarities, nearest, axis=1)
    order = np.argsort(-nearness, axis=1, kind="stable")
    is_other = np.take_along_axis(nearness, order, axis=1) > -np.inf
    return np.where(is_other, np.take_along_axis(nearest, order, axis=1), -1)


def _votes(labels: Numbers, nearest: Numbers, counts: Numbers, classes: int) -> Numbers:
    """(B, L) The classes that win with each number of neighbours."""
    votes = np.zeros((len(nearest), classes))
    result = np.empty((len(nearest), len(counts)), np.int64)
    row = np.arange(len(nearest))
    for number in range(nearest.shape[1]):
        is_there = nearest[:, number] >= 0
        # A later neighbour adds a little less, so that equal votes go to the class of a nearer one.
        votes[row[is_there], labels[nearest[is_there, number]]] += 1 - 1e-6 * number
        result[:, counts == number + 1] = votes.argmax(axis=1)[:, None]
    return result
