"""Ridge regression of the classes' indicators, for many penalties by one decomposition.

Each penalty is judged by the squared error on every group of rows, by the fit without it. Such
scores are shares, not logits: they are multiplied by the factor with which the softmax of the
left-out scores fits best.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pipeline.network.bounded_minimum import minimise
from pipeline.solvers.decomposition import decompose
from pipeline.solvers.left_out import LeftOut
from pipeline.solvers.linear import LinearClassifier, OutOfGroup, log_losses
from pipeline.solvers.problem import Floats, Numbers, Problem, both_scores
from pipeline.solvers.row_blocks import map_blocks, one_blas_thread, whole_groups

LARGEST, SMALLEST = 10.0, 1e-7  # penalties, in units of the rows' total sum of squares
PENALTIES = 41  # five in each power of ten
KEPT_CELLS = 2**25  # left-out errors of all penalties that stay in memory: 256 MB
FACTORS = (math.log(0.1), math.log(1000))  # of scores: the least and the largest logarithm


@dataclass(frozen=True)
class RidgePath:
    """How good each of L penalties is, on rows whose group the fit did not have."""

    penalties: Floats
    """(L,) Ascending."""
    squared_errors: Floats
    """(L,) Mean weighted sum over the classes."""
    accuracies: Floats
    """(L,)"""

    @property
    def best(self) -> int:
        """Where the squared error is lowest; of equal ones the largest penalty."""
        return len(self.penalties) - 1 - int(self.squared_errors[::-1].argmin())


@dataclass(frozen=True)
class RidgeFit:
    """A classifier with the penalty that was best."""

    classifier: LinearClassifier
    penalty: float
    path: RidgePath
    out_of_group: OutOfGroup
    """By the same penalty, times the same factor."""


def penalties(count: int = PENALTIES) -> Floats:
    """Penalties at equal ratios, in units of the sum of squares of all centred rows."""
    return np.geomspace(SMALLEST, LARGEST, count)


def fit(problem: Problem, candidates: Floats | None = None) -> RidgeFit:
    """Fit with the best of some penalties, `penalties()` by default.

    Raises:
        PipelineError: the features cannot be decomposed.
    """
    with one_blas_thread():
        candidates = penalties() if candidates is None else np.sort(candidates)
        left_out = _decompose(problem, candidates)
        path, errors = _judge(left_out, candidates)
        best = replace(left_out, penalties=left_out.penalties[path.best : path.best + 1])
        if errors is None:
            errors = np.concatenate([errors[:, 0] for _, errors in _judged_errors(best)])
        scores = _out_of_group(problem, errors)
        factor = _best_factor(scores)
        return RidgeFit(
            _classifier(best, factor),
            float(candidates[path.best]),
            path,
            replace(scores, scores=factor * scores.scores),
        )


def _decompose(problem: Problem, candidates: Floats) -> LeftOut:
    parts = decompose(problem)
    products, mean_target = parts.multiply_targets(problem)
    return LeftOut(problem, parts, products, mean_target, candidates * parts.total)


def _judge(left_out: LeftOut, candidates: Floats) -> tuple[RidgePath, Floats | None]:
    """The path, and the errors of its best penalty, (J, outputs), if all fit into memory."""
    problem = left_out.problem
    shape = int(problem.is_judged.sum()), len(candidates), problem.outputs
    all_errors = np.empty(shape) if math.prod(shape) <= KEPT_CELLS else None
    squared, right, first = np.zeros(len(candidates)), np.zeros(len(candidates)), 0
    for rows, errors in _judged_errors(left_out):
        squared += problem.weights[rows] @ np.square(errors).sum(axis=2)
        right += _count_right(problem, rows, errors)
        if all_errors is not None:
            all_errors[first : first + len(rows)] = errors
        first += len(rows)
    squared *= (problem.classes / problem.outputs) / problem.weights[problem.is_judged].sum()
    path = RidgePath(candidates, squared, right / shape[0])
    return path, None if all_errors is None else all_errors[:, path.best]


def _judged_errors(left_out: LeftOut) -> Iterator[tuple[Numbers, Floats]]:
    """Yield judged rows, (J,), and their errors by fits without their groups, (J, L, outputs)."""
    is_judged = left_out.problem.is_judged

    def judge(rows: Numbers) -> tuple[Numbers, Floats]:
        mask = is_judged[rows]
        return rows[mask], left_out.errors(rows)[mask]

    return map_blocks(judge, whole_groups(left_out.problem.groups))


def _count_right(problem: Problem, rows: Numbers, errors: Floats) -> Numbers:
    """(L,) How many rows each penalty's fits predict rightly."""
    scores = problem.targets(rows)[:, None] - errors
    if problem.outputs == 1:
        predicted = (scores[..., 0] > 0.5).astype(np.int64)
    else:
        predicted = scores.argmax(axis=2)
    right: Numbers = (predicted == problem.labels[rows, None]).sum(axis=0)
    return right


def _out_of_group(problem: Problem, errors: Floats) -> OutOfGroup:
    """The judged rows in their order, with the scores that have these errors."""
    rows = np.concatenate(whole_groups(problem.groups))
    rows = rows[problem.is_judged[rows]]
    order = np.argsort(rows)
    rows, errors = rows[order], errors[order]
    scores = both_scores(problem.targets(rows) - errors)
    return OutOfGroup(rows, scores, problem.labels[rows])


def _best_factor(left_out: OutOfGroup) -> float:
    """The factor of the scores with the lowest log loss.

    A prior as weak as one row keeps it finite where all rows are right.
    """

    def loss(logarithm: float) -> float:
        scores = math.exp(logarithm) * left_out.scores
        return float(log_losses(scores, left_out.labels).sum()) + logarithm**2 / 2

    return math.exp(minimise(loss, *FACTORS))


def _classifier(left_out: LeftOut, factor: float) -> LinearClassifier:
    """The fit to all rows with the one penalty of `left_out`."""
    parts = left_out.parts
    shrunk = left_out.products / (parts.values + left_out.penalties)[:, None]
    weights = parts.to_features(left_out.problem, shrunk).T
    bias = left_out.mean_target - weights @ parts.mean
    if len(weights) == 1:  # the second class's share; the first has the rest
        weights, bias = np.concatenate([-weights, weights]), np.append(1 - bias, bias)
    return LinearClassifier(factor * weights, factor * bias)
