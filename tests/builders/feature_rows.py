"""Rows of features in which classes differ, for the solvers."""

import numpy as np

from pipeline.solvers.problem import Problem


def draw_problem(
    rows: int = 60,
    width: int = 9,
    classes: int = 3,
    *,
    distance: float = 1.0,
    seed: int = 0,
    is_balanced: bool = False,
    large_group: int = 0,
) -> Problem:
    """Normal rows around centres at about `distance` from zero, in groups of one to five or so.

    Args:
        large_group: So many rows more are in one group.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    if classes > 1:
        labels[: rows // 4] = 0  # classes are not of equal size
    centres = distance * random.normal(size=(classes, width))
    features = (random.normal(size=(rows, width)) + centres[labels] + 3).astype(np.float32)
    groups = random.integers(0, max(2, rows // 2), rows) + 1
    groups[:large_group] = 0
    return Problem.of(features, labels, groups, classes, is_balanced=is_balanced)
