"""Ridge regressions against fits that leave groups out one by one, and against scikit-learn."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from threadpoolctl import threadpool_limits

from pipeline.core.errors import PipelineError
from pipeline.solvers import decomposition, left_out, ridge, row_blocks
from pipeline.solvers.problem import Floats, Mask, Problem
from pipeline.solvers.ridge import RidgeFit
from tests.builders.feature_rows import draw_problem

CANDIDATES = np.geomspace(1e-6, 10, 8)


def scale(problem: Problem) -> float:
    """The unit of penalties: the sum of the weighted squares of centred rows."""
    features, weights = np.asarray(problem.features[np.arange(len(problem))]), problem.weights
    centred = features.astype(np.float64) - weights @ features.astype(np.float64) / weights.sum()
    return float((weights @ np.square(centred)).sum())


def refit(problem: Problem, training: Mask, penalty: float) -> Callable[[Floats], Floats]:
    """A ridge regression by its normal equations, in the penalty's own unit."""
    features = np.asarray(problem.features[np.flatnonzero(training)], np.float64)
    targets = np.eye(problem.classes)[problem.labels[training]]
    weights = problem.weights[training]
    mean, mean_target = weights @ features / weights.sum(), weights @ targets / weights.sum()
    centred = features - mean
    matrix = centred.T @ (weights[:, None] * centred) + penalty * np.eye(features.shape[1])
    solution = np.linalg.solve(matrix, centred.T @ (weights[:, None] * (targets - mean_target)))
    return lambda rows: (rows - mean) @ solution + mean_target


def leave_groups_out(problem: Problem, penalty: float) -> Floats:
    """(N, K) Scores of each row by a fit without its group."""
    features = np.asarray(problem.features[np.arange(len(problem))], np.float64)
    scores = np.empty((len(problem), problem.classes))
    for group in np.unique(problem.groups):
        is_out = problem.groups == group
        scores[is_out] = refit(problem, ~is_out, penalty)(features[is_out])
    return scores


def check(problem: Problem, fit: RidgeFit) -> None:
    """Compare a fit with others that leave each group out."""
    labels, weights, judged = problem.labels, problem.weights, problem.is_judged
    indicators = np.eye(problem.classes)[labels]
    scores = [leave_groups_out(problem, penalty * scale(problem)) for penalty in CANDIDATES]
    squared = [np.square(indicators - values).sum(axis=1)[judged] for values in scores]
    errors = [weights[judged] @ values / weights[judged].sum() for values in squared]
    accuracies = [(values.argmax(axis=1) == labels)[judged].mean() for values in scores]
    np.testing.assert_allclose(fit.path.squared_errors, errors, rtol=1e-6)
    np.testing.assert_allclose(fit.path.accuracies, accuracies)
    best = int(np.argmin(errors))
    assert fit.penalty == CANDIDATES[best]
    assert fit.out_of_group.rows.tolist() == np.flatnonzero(judged).tolist()
    factor = fit.out_of_group.scores / scores[best][judged]
    np.testing.assert_allclose(factor, factor.mean(), rtol=1e-6)
    features = np.asarray(problem.features[np.arange(len(problem))], np.float64)
    everything = refit(problem, np.ones(len(problem), bool), fit.penalty * scale(problem))
    expected = factor.mean() * everything(features)
    np.testing.assert_allclose(fit.classifier.scores(features), expected, atol=1e-6)


@pytest.mark.parametrize("is_balanced", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("width", [9, 100])  # fewer features than rows, and more
def test_each_penalty_is_judged_by_fits_without_the_group(
    width: int, classes: int, is_balanced: bool
) -> None:
    problem = draw_problem(70, width, classes, is_balanced=is_balanced)
    check(problem, ridge.fit(problem, CANDIDATES))


@pytest.mark.parametrize("width", [9, 100])
def test_a_large_group_is_left_out_exactly_by_a_fit_of_its_own(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = draw_problem(70, width, 3, is_balanced=True, large_group=20)
    sizes: list[int] = []
    refit_group = left_out.LeftOut._refit

    def spy(self: left_out.LeftOut, group: left_out._Groups, penalties: Floats) -> Floats:
        sizes.append(group.roots.size)
        return refit_group(self, group, penalties)

    monkeypatch.setattr(left_out.LeftOut, "_refit", spy)
    monkeypatch.setattr(left_out, "DECOMPOSITION_COST", 0)
    check(problem, ridge.fit(problem, CANDIDATES))
    assert sizes == [20]


def test_only_judged_rows_count() -> None:
    """Views of an image are rows of its group, and are judged by one of them."""
    problem = draw_problem(60, 9, 3)
    judged = replace(problem, is_judged=np.arange(60) % 3 == 0)
    check(judged, ridge.fit(judged, CANDIDATES))


@pytest.mark.parametrize("width", [9, 100])
def test_without_groups_the_errors_are_those_of_scikit_learn(width: int) -> None:
    drawn = draw_problem(60, width, 3)
    problem = replace(drawn, groups=np.arange(60))
    alphas = CANDIDATES * scale(problem)
    features = np.asarray(problem.features[np.arange(60)], np.float64)
    expected = RidgeCV(alphas, store_cv_results=True).fit(features, np.eye(3)[problem.labels])
    errors = expected.cv_results_.sum(axis=1).mean(axis=0)
    fit = ridge.fit(problem, CANDIDATES)
    np.testing.assert_allclose(fit.path.squared_errors, errors, rtol=1e-5)
    assert fit.penalty * scale(problem) == pytest.approx(expected.alpha_)


@pytest.mark.parametrize("rows", [70, 200])
def test_blocks_and_threads_do_not_change_a_byte(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = draw_problem(rows, 90, 3)
    monkeypatch.setattr(row_blocks, "MAX_THREADS", 1)
    monkeypatch.setattr(decomposition, "COLUMNS", 32)
    alone = ridge.fit(problem)
    monkeypatch.setattr(row_blocks, "MAX_THREADS", 4)
    with threadpool_limits(3):
        together = ridge.fit(problem)
    assert alone.classifier.weights.tobytes() == together.classifier.weights.tobytes()
    assert alone.classifier.bias.tobytes() == together.classifier.bias.tobytes()
    assert alone.path.squared_errors.tobytes() == together.path.squared_errors.tobytes()


@pytest.mark.parametrize("width", [9, 100])
def test_memory_for_errors_changes_no_result(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = draw_problem(70, width, 3)
    kept = ridge.fit(problem)
    monkeypatch.setattr(ridge, "KEPT_CELLS", 0)
    monkeypatch.setattr(left_out, "CELLS", 1)
    monkeypatch.setattr("pipeline.solvers.row_blocks.ROWS", 16)
    computed_again = ridge.fit(problem)
    np.testing.assert_allclose(computed_again.out_of_group.scores, kept.out_of_group.scores)
    np.testing.assert_allclose(computed_again.classifier.weights, kept.classifier.weights)
    assert computed_again.penalty == kept.penalty


def test_constant_features_and_duplicate_rows_do_no_harm() -> None:
    drawn = draw_problem(40, 12, 3)
    features = np.repeat(np.asarray(drawn.features[np.arange(40)]), 2, axis=0)
    features[:, :4] = 7
    labels, groups = np.repeat(drawn.labels, 2), np.repeat(np.arange(40), 2)
    check(problem := Problem.of(features, labels, groups, 3), ridge.fit(problem, CANDIDATES))


def test_a_class_with_one_image_is_learnt_and_not_judged() -> None:
    drawn = draw_problem(40, 12, 3)
    labels = np.where(np.arange(40) == 5, 3, drawn.labels)
    problem = Problem.of(drawn.features, labels, np.arange(40), 4)
    fit = ridge.fit(problem)
    assert 5 not in fit.out_of_group.rows
    assert len(fit.out_of_group.rows) == 39
    features = np.asarray(drawn.features[np.array([5])], np.float64)
    overfitted = ridge.fit(problem, np.array([1e-9])).classifier
    assert overfitted.scores(features).shape == (1, 4)


def test_a_class_without_images_gets_the_lowest_scores() -> None:
    drawn = draw_problem(40, 12, 2, distance=3)
    problem = Problem.of(drawn.features, 2 * drawn.labels, np.arange(40), 3)
    scores = ridge.fit(problem).out_of_group.scores
    assert (scores[:, 1] < scores.max(axis=1)).all()


def test_scores_are_logits_whose_log_loss_is_as_low_as_any_factor_makes_it() -> None:
    out_of_group = ridge.fit(draw_problem(200, 20, 3, distance=0.3)).out_of_group
    losses = [
        replace(out_of_group, scores=factor * out_of_group.scores).log_loss
        for factor in (0.7, 0.9, 1.1, 1.4)
    ]
    assert out_of_group.log_loss < min(losses)
    assert out_of_group.log_loss < 0.9 * np.log(3)


def test_separable_classes_have_finite_scores() -> None:
    out_of_group = ridge.fit(draw_problem(200, 20, 2, distance=30)).out_of_group
    assert out_of_group.accuracy == 1
    assert 0 < out_of_group.log_loss < 0.05


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "some features are not finite numbers"),
        (np.inf, "some features are not finite numbers"),
        (2.0, "the features are the same for all images"),
    ],
)
def test_features_that_cannot_be_solved_for_are_refused(value: float, message: str) -> None:
    features = np.full((40, 12), 2.0, np.float32)
    features[3, 4] = value
    problem = Problem.of(features, np.arange(40) % 2, np.arange(40), 2)
    with pytest.raises(PipelineError, match=message):
        ridge.fit(problem)


def test_too_many_rows_of_too_many_features_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decomposition, "MAX_SIDE", 30)
    ridge.fit(draw_problem(40, 20))
    with pytest.raises(PipelineError, match="40 rows of 50 features are too many to solve for"):
        ridge.fit(draw_problem(40, 50))


@pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
        ([1, 1, 1, 1], [0, 1, 2, 3], "are all of one class"),
        ([0, 0, 1, 1], [0, 0, 1, 1], "each class has images of one group alone"),
        ([0, 1, 0, 1], [0, 0, 0, 0], "each class has images of one group alone"),
    ],
)
def test_images_that_no_classifier_can_be_judged_by_are_refused(
    labels: list[int], groups: list[int], message: str
) -> None:
    with pytest.raises(PipelineError, match=message):
        Problem.of(np.zeros((4, 3)), np.array(labels), np.array(groups), 2)
