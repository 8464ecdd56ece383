from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from pipeline.core.errors import PipelineError
from pipeline.solvers import neighbours
from pipeline.solvers.problem import Problem
from tests.builders.feature_rows import draw_problem


def predict(problem: Problem, row: int, count: int) -> int:
    """The class of one row by the nearest rows of other groups."""
    rows = np.flatnonzero(problem.is_judged & (problem.groups != problem.groups[row]))
    features = np.asarray(problem.features[np.arange(len(problem))], np.float64)
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    order = rows[np.argsort(-(directions[rows] @ directions[row]), kind="stable")][:count]
    votes = Counter(problem.labels[order].tolist())
    most = max(votes.values())
    tied = [label for label, number in votes.items() if number == most]
    if len(tied) == 1:
        return int(tied[0])
    places = {label: np.flatnonzero(problem.labels[order] == label).sum() for label in tied}
    return int(min(sorted(tied), key=lambda label: int(places[label])))


@pytest.mark.parametrize("cells", [neighbours.CELLS, 1])
def test_predictions_are_by_the_nearest_rows_of_other_groups(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "CELLS", cells)
    drawn = draw_problem(50, 6, 3, distance=0.5)
    problem = replace(drawn, is_judged=np.arange(50) % 5 > 0)
    fit = neighbours.fit(problem, [3, 1, 7])
    assert fit.counts.tolist() == [1, 3, 7]
    assert fit.rows.tolist() == np.flatnonzero(problem.is_judged).tolist()
    for count, accuracy in zip(fit.counts.tolist(), fit.accuracies.tolist(), strict=True):
        expected = np.array([predict(problem, row, count) for row in fit.rows.tolist()])
        assert accuracy == pytest.approx((expected == problem.labels[fit.rows]).mean())
        if count == fit.count:
            assert fit.predictions.tolist() == expected.tolist()
            assert fit.is_right.tolist() == (expected == problem.labels[fit.rows]).tolist()
    assert fit.accuracies.max() == fit.accuracies[fit.counts == fit.count]


def test_a_near_duplicate_of_another_class_does_not_vote_within_its_group() -> None:
    features = np.array([[1, 0], [1, 0.01], [0, 1], [0.1, 1], [1, 0.2]], np.float32)
    labels, groups = np.array([0, 1, 1, 1, 0]), np.array([0, 0, 1, 2, 3])
    fit = neighbours.fit(Problem.of(features, labels, groups, 2), [1])
    assert fit.predictions.tolist() == [0, 0, 1, 1, 1]


def test_more_neighbours_than_there_are_vote_as_all_of_them() -> None:
    problem = draw_problem(12, 6, 2, distance=3)
    others = int(problem.is_judged.sum()) - 1
    assert neighbours.fit(problem).counts.tolist() == [1, 3, 5, 9, others]


def test_rows_of_zeros_have_neighbours_too() -> None:
    features = np.zeros((6, 3), np.float32)
    fit = neighbours.fit(Problem.of(features, np.arange(6) % 2, np.arange(6), 2), [1])
    assert set(fit.predictions.tolist()) <= {0, 1}


def test_features_that_are_not_finite_are_refused() -> None:
    features = np.full((6, 3), np.nan, np.float32)
    with pytest.raises(PipelineError, match="some features are not finite numbers"):
        neighbours.fit(Problem.of(features, np.arange(6) % 2, np.arange(6), 2))
