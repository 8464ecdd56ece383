"""Errors of a ridge regression on each group of rows, as if it had been fitted without the group.

The errors of the fit on all rows, e, and its hat matrix, H, give them exactly: for the rows G of a
group they are (I - H_GG)^-1 e_G. Source: R. Cook and S. Weisberg, "Residuals and influence in
regression" (1982), section 3.5. For R directions and L penalties that takes G^2 R L products. Of a
large group, a fit without it costs less: another eigendecomposition, of R directions.

Intercept and coefficients are those of the fit without the group. The weights of rows are given.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.solvers.decomposition import Decomposition
from pipeline.solvers.problem import Floats, Numbers, Problem

DECOMPOSITION_COST = 10  # of R directions takes so many times R^3 products
LEAST_LARGE = 16  # rows of a large group: below, starting a decomposition costs more
CELLS = 2**21  # errors in memory at a time: 16 MB


@dataclass(frozen=True)
class _Groups:
    """M groups of G rows: coordinates (M, G, R), targets (M, G, K), roots of weights (M, G).

    Coordinates and targets are centred, and times the roots of the weights.
    """

    values: Floats
    targets: Floats
    roots: Floats


@dataclass(frozen=True)
class LeftOut:
    """The errors for L penalties of fits to R directions of a problem with K outputs."""

    problem: Problem
    parts: Decomposition
    products: Floats
    """(R, K) Of the directions with the centred targets."""
    mean_target: Floats
    """(K,)"""
    penalties: Floats
    """(L,) What is added to the eigenvalues."""

    def errors(self, rows: Numbers) -> Floats:
        """(B, L, K) Targets minus predictions for the rows of whole groups, sorted by group."""
        roots = np.sqrt(self.problem.weights[rows])
        values = self.parts.rows(self.problem, rows)
        targets = roots[:, None] * (self.problem.targets(rows) - self.mean_target)
        result = np.empty((len(rows), len(self.penalties), targets.shape[1]))
        for places in _places_by_size(self.problem.groups[rows]):
            groups = _Groups(values[places], targets[places], roots[places])
            step = max(1, CELLS // (places.size * targets.shape[1]))
            for start in range(0, len(self.penalties), step):
                part = slice(start, start + step)
                result[places.ravel(), part] = self._errors(groups, self.penalties[part])
        result /= roots[:, None, None]
        return result

    def _errors(self, groups: _Groups, penalties: Floats) -> Floats:
        """(M * G, l, K) Times the roots of the weights."""
        size, width = groups.values.shape[1:]
        is_large = size * size * len(self.penalties) > DECOMPOSITION_COST * width * width
        if is_large and size >= LEAST_LARGE:
            return np.concatenate([self._refit(group, penalties) for group in _singly(groups)])
        shrunk = 1 / (self.parts.values[:, None] + penalties)  # (R, l)
        count = groups.roots.size
        fits = groups.values.reshape(count, -1) @ _columns(self.products, shrunk)
        outputs = self.products.shape[1]
        errors = groups.targets.reshape(count, 1, outputs) - fits.reshape(count, -1, outputs)
        rest = self._identity_minus_hat(groups, shrunk)
        if size == 1:
            alone: Floats = errors / rest.reshape(count, -1, 1)
            return alone
        stacked = errors.reshape(-1, size, len(penalties), outputs).transpose(0, 2, 1, 3)
        solved: Floats = np.asarray(np.linalg.solve(rest, stacked), np.float64)
        return solved.transpose(0, 2, 1, 3).reshape(errors.shape)

    def _identity_minus_hat(self, groups: _Groups, shrunk: Floats) -> Floats:
        """(M, l, G, G) I - H_GG."""
        number, size = groups.roots.shape
        result = np.empty((number, shrunk.shape[1], size, size))
        total = self.problem.weights.sum()
        for first in range(size):
            for second in range(first, size):
                hat = (groups.values[:, first] * groups.values[:, second]) @ shrunk
                hat += (groups.roots[:, first] * groups.roots[:, second] / total)[:, None]
                result[..., first, second] = result[..., second, first] = (first == second) - hat
        return result

    def _refit(self, group: _Groups, penalties: Floats) -> Floats:
        """(G, l, K) The errors of one group by a fit without it."""
        values, targets, roots = group.values[0], group.targets[0], group.roots[0]
        total = self.problem.weights.sum() - roots @ roots
        mean, mean_target = -(roots @ values) / total, -(roots @ targets) / total
        covariance = np.diag(self.parts.values) - values.T @ values - total * np.outer(mean, mean)
        products = self.products - values.T @ targets - total * np.outer(mean, mean_target)
        eigenvalues, vectors = np.linalg.eigh(covariance)
        shrunk = 1 / (np.maximum(eigenvalues, 0)[:, None] + penalties)
        rotated = (values - np.outer(roots, mean)) @ vectors
        fits = rotated @ _columns(vectors.T @ products, shrunk)
        centred = targets - np.outer(roots, mean_target)
        errors: Floats = centred[:, None] - fits.reshape(len(roots), -1, targets.shape[1])
        return errors


def _columns(products: Floats, shrunk: Floats) -> Floats:
    """(R, l * K) The coefficients of R directions for l penalties."""
    return (shrunk[:, :, None] * products[:, None]).reshape(len(products), -1)


def _singly(groups: _Groups) -> Iterator[_Groups]:
    for number in range(len(groups.roots)):
        part = slice(number, number + 1)
        yield _Groups(groups.values[part], groups.targets[part], groups.roots[part])


def _places_by_size(groups: Numbers) -> list[Numbers]:
    """For each size of a group, (M, G) where the rows of such groups are in sorted `groups`."""
    starts = np.flatnonzero(np.diff(groups, prepend=groups[:1] - 1))
    sizes = np.diff(np.append(starts, len(groups)))
    return [starts[sizes == size][:, None] + np.arange(size) for size in np.unique(sizes).tolist()]
