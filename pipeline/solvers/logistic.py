"""Multinomial logistic regression along a path of penalties, judged by cross-validation.

Weights are penalised by half their squared norm, intercepts are not. From the largest penalty on,
each fit starts from the last one. Folds have nearly the same shares of classes, and whole groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from pipeline.solvers.decomposition import Decomposition, decompose
from pipeline.solvers.folds import stratified_folds
from pipeline.solvers.linear import LinearClassifier, OutOfGroup, log_losses
from pipeline.solvers.problem import Floats, Numbers, Problem
from pipeline.solvers.row_blocks import equal_blocks, map_blocks, one_blas_thread

LARGEST, SMALLEST = 10.0, 1e-7  # penalties, in units of the rows' mean sum of squares
PENALTIES = 17  # two in each power of ten
FOLDS = 5
PATIENCE = 3  # penalties in a row with a higher loss than the lowest, after which the path ends
OPTIONS = {"maxiter": 500, "gtol": 1e-5, "ftol": 1e-9, "maxls": 50}

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LogisticPath:
    """How good each of L penalties is, on rows whose group the fit did not have."""

    penalties: Floats
    """(L,) Descending; a path ends before the smallest where losses rise."""
    losses: Floats
    """(L,) Mean weighted log loss, in nats."""
    accuracies: Floats
    """(L,)"""

    @property
    def best(self) -> int:
        """Where the loss is lowest; of equal ones the largest penalty."""
        return int(self.losses.argmin())


@dataclass(frozen=True)
class LogisticFit:
    """A classifier with the penalty that was best."""

    classifier: LinearClassifier
    penalty: float
    path: LogisticPath
    out_of_group: OutOfGroup


def penalties(count: int = PENALTIES) -> Floats:
    """Penalties at equal ratios, in units of the mean sum of squares of centred rows."""
    return np.geomspace(LARGEST, SMALLEST, count)


def fit(problem: Problem, candidates: Floats | None = None) -> LogisticFit:
    """Fit with the best of some penalties, `penalties()` by default.

    Raises:
        PipelineError: the features cannot be decomposed.
    """
    with one_blas_thread():
        candidates = penalties() if candidates is None else np.sort(candidates)[::-1]
        space = _Space(problem, decompose(problem))
        path, out_of_group, start = _cross_validate(space, candidates)
        penalty = float(path.penalties[path.best])
        solution = space.fit(np.arange(len(problem)), penalty, start)
        return LogisticFit(space.classifier(solution), penalty, path, out_of_group)


@dataclass(frozen=True)
class _Fold:
    training: Numbers
    judged: Numbers


def _folds(problem: Problem) -> list[_Fold]:
    """The folds. A row is not judged where no row of its class is left to learn from."""
    _, groups = np.unique(problem.groups, return_inverse=True)
    _, labels = np.unique(problem.labels, return_inverse=True)
    numbers = stratified_folds(labels, groups, min(FOLDS, int(groups.max()) + 1))
    folds = []
    for number in np.unique(numbers).tolist():
        training = np.flatnonzero(numbers != number)
        is_known = np.isin(problem.labels, problem.labels[training])
        judged = np.flatnonzero((numbers == number) & problem.is_judged & is_known)
        folds.append(_Fold(training, judged))
    return folds


def _cross_validate(space: "_Space", candidates: Floats) -> tuple[LogisticPath, OutOfGroup, Floats]:
    """The path, the scores of its best penalty, and that penalty's fit without the first fold."""
    problem, folds = space.problem, _folds(space.problem)
    judged = np.concatenate([fold.judged for fold in folds])
    labels, weights = problem.labels[judged], problem.weights[judged]
    solutions: list[Floats] = [space.zero() for _ in folds]
    losses, accuracies = list[float](), list[float]()
    best, start = np.zeros(0), solutions[0]
    for penalty in candidates.tolist():
        solutions = [
            space.fit(fold.training, penalty, solution)
            for fold, solution in zip(folds, solutions, strict=True)
        ]
        scores = np.concatenate(
            [
                space.scores(fold.judged, solution)
                for fold, solution in zip(folds, solutions, strict=True)
            ]
        )
        losses.append(float(weights @ log_losses(scores, labels) / weights.sum()))
        accuracies.append(float((scores.argmax(axis=1) == labels).mean()))
        if losses[-1] == min(losses) and losses.count(losses[-1]) == 1:
            best, start = scores, solutions[0]
        if len(losses) - 1 - int(np.argmin(losses)) >= PATIENCE:
            break
    path = LogisticPath(candidates[: len(losses)], np.array(losses), np.array(accuracies))
    order = np.argsort(judged)
    return path, OutOfGroup(judged[order], best[order], labels[order]), start


class _Space:
    """The directions of a decomposition, in which weights are sought.

    In units of the roots of the penalised variances the loss is about as curved in one direction
    as in another, so L-BFGS takes tens of steps, not hundreds.
    """

    def __init__(self, problem: Problem, parts: Decomposition) -> None:
        self.problem = problem
        self._parts = parts
        self._variances = parts.values / problem.weights.sum()
        self._rows: Any = problem.features
        self._mean = parts.mean
        if parts.coordinates is not None:
            roots = np.sqrt(problem.weights)[:, None]
            self._rows = (parts.coordinates / roots).astype(np.float32)
            self._mean = np.zeros(self._rows.shape[1])

    def zero(self) -> Floats:
        """(R + 1, outputs) Coefficients of the directions, and last the intercepts."""
        return np.zeros((len(self._variances) + 1, self.problem.outputs))

    def fit(self, rows: Numbers, penalty: float, start: Floats) -> Floats:
        """The coefficients that fit some rows, sought from `start`."""
        strength = penalty * self._variances.sum()
        units = np.append(1 / np.sqrt(self._variances / 4 + strength), 2.0)[:, None]
        blocks = [rows[block] for block in equal_blocks(len(rows))]
        total = self.problem.weights[rows].sum()

        def loss_and_gradient(flat: Floats) -> tuple[float, Floats]:
            solution = flat.reshape(start.shape) * units
            loss, gradient = self._loss_and_gradient(blocks, solution)
            loss, gradient = loss / total, gradient / total
            gradient[:-1] += strength * solution[:-1]
            loss += strength / 2 * float(np.square(solution[:-1]).sum())
            return loss, (gradient * units).ravel()

        first = (start / units).ravel()
        result = minimize(loss_and_gradient, first, method="L-BFGS-B", jac=True, options=OPTIONS)
        solution: Floats = result.x.reshape(start.shape) * units
        return solution

    def scores(self, rows: Numbers, solution: Floats) -> Floats:
        """(B, K)"""
        weights, bias = self._on_rows(solution)
        return _all_logits(self._read(rows) @ weights.astype(np.float32) + bias)

    def classifier(self, solution: Floats) -> LinearClassifier:
        weights = self._parts.to_features(self.problem, solution[:-1])
        bias = solution[-1] - self._parts.mean @ weights
        if weights.shape[1] == 1:
            weights, bias = _all_logits(weights), _all_logits(bias[None])[0]
        return LinearClassifier(weights.T, bias)

    def _read(self, rows: Numbers) -> Values:
        values: Values = np.asarray(self._rows[rows], np.float32)
        return values

    def _on_rows(self, solution: Floats) -> tuple[Floats, Floats]:
        """Weights and bias for rows as they are, not centred."""
        weights = solution[:-1] if self._parts.basis is None else self._parts.basis @ solution[:-1]
        return weights, solution[-1] - self._mean @ weights

    def _loss_and_gradient(
        self, blocks: Sequence[Numbers], solution: Floats
    ) -> tuple[float, Floats]:
        """Sums over the rows, without the penalty."""
        weights, bias = self._on_rows(solution)
        single = weights.astype(np.float32)

        def add(rows: Numbers) -> tuple[float, Floats, Floats]:
            values = self._read(rows)
            losses, errors = self._errors(rows, _all_logits(values @ single + bias))
            products: Floats = (values.T @ errors.astype(np.float32)).astype(np.float64)
            return float(losses.sum()), products, errors.sum(axis=0)

        loss, gradient, of_bias = 0.0, np.zeros(weights.shape), np.zeros(len(bias))
        for block_loss, products, errors in map_blocks(add, blocks):
            loss += block_loss
            gradient += products
            of_bias += errors
        gradient -= np.outer(self._mean, of_bias)
        if self._parts.basis is not None:
            gradient = self._parts.basis.T @ gradient
        return loss, np.append(gradient, of_bias[None], axis=0)

    def _errors(self, rows: Numbers, scores: Floats) -> tuple[Floats, Floats]:
        """(B,) Weighted log losses, and (B, outputs) their gradients."""
        labels, weights = self.problem.labels[rows], self.problem.weights[rows]
        losses = weights * log_losses(scores, labels)
        scores -= scores.max(axis=1, keepdims=True)
        shares = np.exp(scores)
        shares /= shares.sum(axis=1, keepdims=True)
        errors = shares[:, -self.problem.outputs :] - self.problem.targets(rows)
        return losses, weights[:, None] * errors


def _all_logits(scores: Floats) -> Floats:
    """(..., K) Logits of all classes; of two, `scores` has the second's, and the first's is 0."""
    if scores.shape[-1] > 1:
        return scores
    return np.concatenate([np.zeros_like(scores), scores], axis=-1)
