"""The eigendecomposition that all penalties and folds share.

Of N weighted, centred rows of D features, it is that of the smaller of X'X (D, D) and XX' (N, N).
In its coordinates Z, (N, R), Z'Z is diagonal, so a ridge regression is a division.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import PipelineError
from pipeline.solvers.problem import Floats, Numbers, Problem
from pipeline.solvers.row_blocks import equal_blocks, map_blocks

MAX_SIDE = 8192  # of the decomposed matrix: half a gigabyte, and minutes
LEAST_VALUE = 1e-12  # of the largest eigenvalue: directions below it are rounding errors
COLUMNS = 1024  # features that are multiplied at a time


@dataclass(frozen=True)
class Decomposition:
    """R directions in which the rows vary."""

    mean: Floats
    """(D,) Of the weighted rows."""
    values: Floats
    """(R,) Sums of the weighted squares in each direction, positive, ascending."""
    basis: Floats | None
    """(D, R) Directions, where X'X was decomposed."""
    coordinates: Floats | None
    """(N, R) The rows in these directions, times the roots of their weights, where XX' was."""

    @property
    def total(self) -> float:
        """The sum of the weighted squares of the centred rows: the unit of penalties."""
        return float(self.values.sum())

    def rows(self, problem: Problem, rows: Numbers) -> Floats:
        """(B, R) Some rows in these directions, times the roots of their weights."""
        if self.coordinates is not None:
            return self.coordinates[rows]
        assert self.basis is not None
        return _weighted(problem, rows, self.mean) @ self.basis

    def multiply_targets(self, problem: Problem) -> tuple[Floats, Floats]:
        """(R, K) The directions' products with the centred targets, and (K,) the targets' mean."""
        total, blocks = problem.weights.sum(), equal_blocks(len(problem))
        mean = _total(problem.weights[rows] @ problem.targets(rows) for rows in blocks) / total

        def multiply(rows: Numbers) -> Floats:
            roots = np.sqrt(problem.weights[rows])[:, None]
            is_dual = self.coordinates is not None
            values = self.rows(problem, rows) if is_dual else _weighted(problem, rows, self.mean)
            product: Floats = values.T @ (roots * (problem.targets(rows) - mean))
            return product

        products = _total(map_blocks(multiply, blocks))
        return (products if self.basis is None else self.basis.T @ products), mean

    def to_features(self, problem: Problem, coefficients: Floats) -> Floats:
        """(D, K) The weights of features for coefficients (R, K) of these directions."""
        if self.basis is not None:
            return self.basis @ coefficients
        assert self.coordinates is not None
        dual = self.coordinates @ (coefficients / self.values[:, None])

        def multiply(rows: Numbers) -> Floats:
            product: Floats = _weighted(problem, rows, self.mean).T @ dual[rows]
            return product

        return _total(map_blocks(multiply, equal_blocks(len(problem))))


def decompose(problem: Problem) -> Decomposition:
    """
    Raises:
        PipelineError: a feature is not finite, all rows are the same, or there are too many rows
            of too many features.
    """
    count, width = problem.features.shape
    if min(count, width) > MAX_SIDE:
        raise PipelineError(
            f"{count:,} rows of {width:,} features are too many to solve for at once, which takes "
            f"at most {MAX_SIDE:,} rows or {MAX_SIDE:,} features: set head.kind=linear"
        )
    mean = _mean(problem)
    if count <= width:
        values, vectors = np.linalg.eigh(_kernel(problem, mean))
        varying = _vary(values)
        coordinates = vectors[:, varying] * np.sqrt(values[varying])
        return Decomposition(mean, values[varying], None, coordinates)
    values, vectors = np.linalg.eigh(_covariance(problem, mean))
    varying = _vary(values)
    return Decomposition(mean, values[varying], np.ascontiguousarray(vectors[:, varying]), None)


def _vary(values: Floats) -> npt.NDArray[np.bool_]:
    if not values[-1] > 0:
        raise PipelineError(
            "the features are the same for all images: another model.backbone may tell them apart"
        )
    varying: npt.NDArray[np.bool_] = values > LEAST_VALUE * values[-1]
    return varying


def _total(terms: Iterator[Floats]) -> Floats:
    """Their sum, added in order."""
    total = next(terms)
    for term in terms:
        total += term
    return total


def _mean(problem: Problem) -> Floats:
    def add(rows: Numbers) -> Floats:
        values = np.asarray(problem.features[rows], np.float64)
        weighted: Floats = problem.weights[rows] @ values
        return weighted

    total = _total(map_blocks(add, equal_blocks(len(problem))))
    if not np.isfinite(total).all():
        raise PipelineError(
            "some features are not finite numbers: the network overflows, so set "
            "features.precision=32-true and features.dtype=float32, or use other weights"
        )
    mean: Floats = total / problem.weights.sum()
    return mean


def _weighted(problem: Problem, rows: Numbers, mean: Floats) -> Floats:
    """(B, D) Centred rows, times the roots of their weights."""
    values: Floats = np.subtract(problem.features[rows], mean, dtype=np.float64)
    values *= np.sqrt(problem.weights[rows])[:, None]
    return values


def _covariance(problem: Problem, mean: Floats) -> Floats:
    """(D, D) X'X."""

    def multiply(rows: Numbers) -> Floats:
        values = _weighted(problem, rows, mean)
        product: Floats = values.T @ values
        return product

    return _total(map_blocks(multiply, equal_blocks(len(problem))))


def _kernel(problem: Problem, mean: Floats) -> Floats:
    """(N, N) XX'."""
    rows = np.arange(len(problem))
    features: npt.NDArray[Any] = problem.features[rows]
    roots = np.sqrt(problem.weights)[:, None]

    def multiply(start: int) -> Floats:
        columns = slice(start, start + COLUMNS)
        values = np.subtract(features[:, columns], mean[columns], dtype=np.float64) * roots
        product: Floats = values @ values.T
        return product

    return _total(map_blocks(multiply, range(0, len(mean), COLUMNS)))
