"""The accuracy to expect from a few images of each class, such as five, with its uncertainty."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from pipeline.core.errors import PipelineError
from pipeline.solvers import ridge
from pipeline.solvers.problem import Floats, Mask, Numbers, Problem

SHOTS = 5  # images of each class
DRAWS = 40
CONFIDENCE = 0.95


@dataclass(frozen=True)
class FewShotEstimate:
    """The accuracy of ridge regressions on a few images of each class."""

    shots: int
    """Images of each class that a fit has, each of another group."""
    accuracies: Floats
    """(draws,) Each on the images of all groups that the draw left."""
    low: float
    high: float
    """The 95 % interval of the mean accuracy over images and draws like these."""

    @property
    def mean(self) -> float:
        return float(self.accuracies.mean())

    @property
    def spread(self) -> tuple[float, float]:
        """Between which 95 % of the draws lie: what somebody with one such set may get."""
        low, high = np.quantile(self.accuracies, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return float(low), float(high)


def estimate(
    problem: Problem, shots: int = SHOTS, draws: int = DRAWS, seed: int = 0
) -> FewShotEstimate:
    """Draw images, fit, and judge on the groups that were not drawn; many times.

    Raises:
        PipelineError: a class is in fewer groups than `shots` and one more.
    """
    random = np.random.default_rng(seed)
    groups_of_classes = _groups_of_classes(problem)
    least = min(len(np.unique(problem.groups[rows])) for rows in groups_of_classes)
    if least <= shots:
        raise PipelineError(
            f"a class has images of {least} groups, and an estimate for {shots} images of each "
            f"class takes {shots + 1}: add images"
        )
    right, tested = np.zeros(len(problem)), np.zeros(len(problem))
    accuracies = np.zeros(draws)
    for number in range(draws):
        is_drawn = _draw(problem, groups_of_classes, shots, random)
        rows = _rows_of_other_groups(problem, is_drawn)
        is_right = _is_right(problem, np.flatnonzero(is_drawn), rows)
        accuracies[number] = is_right.mean()
        right[rows] += is_right
        tested[rows] += 1
    error = _standard_error(problem, accuracies, right, tested, shots / least)
    count = min(draws, len(np.unique(problem.groups[tested > 0])))
    margin = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * error
    mean = float(accuracies.mean())
    return FewShotEstimate(shots, accuracies, max(0.0, mean - margin), min(1.0, mean + margin))


def _groups_of_classes(problem: Problem) -> list[Numbers]:
    """The judged rows of each class that has any."""
    rows = np.flatnonzero(problem.is_judged)
    labels = problem.labels[rows]
    return [rows[labels == label] for label in np.unique(labels)]


def _draw(
    problem: Problem, rows_of_classes: list[Numbers], shots: int, random: np.random.Generator
) -> Mask:
    """(N,) Which rows are drawn: of each class one row of each of `shots` groups."""
    is_drawn = np.zeros(len(problem), np.bool_)
    for rows in rows_of_classes:
        shuffled = random.permutation(rows)
        _, firsts = np.unique(problem.groups[shuffled], return_index=True)
        is_drawn[shuffled[random.permutation(firsts)[:shots]]] = True
    return is_drawn


def _rows_of_other_groups(problem: Problem, is_drawn: Mask) -> Numbers:
    is_known = np.isin(problem.groups, problem.groups[is_drawn])
    return np.flatnonzero(problem.is_judged & ~is_known)


def _is_right(problem: Problem, drawn: Numbers, rows: Numbers) -> Mask:
    """(B,) Whether a fit to the drawn rows predicts `rows` rightly."""
    small = Problem.of(
        problem.features[drawn], problem.labels[drawn], problem.groups[drawn], problem.classes
    )
    classifier = ridge.fit(small).classifier
    scores = classifier.scores(np.asarray(problem.features[rows], np.float64))
    result: Mask = scores.argmax(axis=1) == problem.labels[rows]
    return result


def _standard_error(
    problem: Problem, accuracies: Floats, right: Floats, tested: Floats, share: float
) -> float:
    """Of the mean accuracy, over new draws, new images to draw from, and new test images.

    Draws from one pool of images are not independent: to first order, the mean over all of them
    varies from pool to pool by the variance of one draw, times the share of the pool that it takes.
    Source: W. Hoeffding, "A class of statistics with asymptotically normal distribution" (1948).

    Args:
        right: (N,) How often each row was predicted rightly.
        tested: (N,) How often it was tested.
        share: Of the groups of the smallest class that a draw takes.
    """
    of_draws = float(accuracies.var(ddof=1)) * (1 / len(accuracies) + share)
    rows = np.flatnonzero(tested)
    deviations = right[rows] / tested[rows]
    deviations -= deviations.mean()
    _, numbers = np.unique(problem.groups[rows], return_inverse=True)
    sums = np.bincount(numbers, deviations) / len(rows)
    of_groups = float(np.square(sums).sum()) * len(sums) / max(1, len(sums) - 1)
    return math.sqrt(of_draws + of_groups)
