"""Logistic regressions against those of scikit-learn, fold by fold."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from pipeline.core.errors import PipelineError
from pipeline.solvers import logistic, row_blocks
from pipeline.solvers.problem import Floats, Numbers, Problem
from tests.builders.feature_rows import draw_problem


def reference(problem: Problem, training: Numbers, penalty: float) -> LogisticRegression:
    """scikit-learn's fit with the same penalty, whose unit is of all rows."""
    features = np.asarray(problem.features[np.arange(len(problem))], np.float64)
    weights = problem.weights
    mean = weights @ features / weights.sum()
    unit = float(weights @ np.square(features - mean).sum(axis=1)) / weights.sum()
    inverse = 1 / (penalty * unit * weights[training].sum())
    model = LogisticRegression(C=inverse, tol=1e-8, max_iter=5000)
    return model.fit(features[training], problem.labels[training], weights[training])


def softmax(scores: Floats) -> Floats:
    values = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def all_features(problem: Problem) -> Floats:
    return np.asarray(problem.features[np.arange(len(problem))], np.float64)


@pytest.mark.parametrize("is_balanced", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("width", [9, 100])
def test_the_fit_is_that_of_scikit_learn(width: int, classes: int, is_balanced: bool) -> None:
    problem = draw_problem(80, width, classes, distance=0.5, is_balanced=is_balanced)
    fit = logistic.fit(problem, np.array([0.1, 0.01]))
    expected = reference(problem, np.arange(80), fit.penalty)
    features = all_features(problem)
    probabilities = softmax(fit.classifier.scores(features))
    np.testing.assert_allclose(probabilities, expected.predict_proba(features), atol=1e-3)


@pytest.mark.parametrize("width", [9, 100])
def test_penalties_are_judged_by_folds_with_whole_groups(width: int) -> None:
    problem = draw_problem(80, width, 3, distance=0.5)
    candidates = np.array([1.0, 0.03, 0.001])
    fit = logistic.fit(problem, candidates)
    features, losses, accuracies = all_features(problem), [], []
    for penalty in fit.path.penalties.tolist():
        probabilities = np.full((80, 3), np.nan)
        for fold in logistic._folds(problem):
            assert not set(problem.groups[fold.training]) & set(problem.groups[fold.judged])
            model = reference(problem, fold.training, penalty)
            probabilities[fold.judged] = model.predict_proba(features[fold.judged])
        judged = fit.out_of_group.rows
        own = probabilities[judged, problem.labels[judged]]
        losses.append(-np.log(own).mean())
        accuracies.append((probabilities[judged].argmax(axis=1) == problem.labels[judged]).mean())
    np.testing.assert_allclose(fit.path.losses, losses, rtol=2e-3)
    np.testing.assert_allclose(fit.path.accuracies, accuracies, atol=0.02)
    assert fit.penalty == candidates[np.argmin(losses)]
    assert fit.out_of_group.log_loss == pytest.approx(min(losses), rel=2e-3)


def test_the_path_ends_where_losses_have_risen() -> None:
    noise = draw_problem(60, 30, 2, distance=0)
    path = logistic.fit(noise).path
    assert len(path.losses) == path.best + 1 + logistic.PATIENCE < logistic.PENALTIES
    assert (path.losses[path.best + 1 :] > path.losses[path.best]).all()


def test_threads_do_not_change_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = draw_problem(70, 9, 3)
    monkeypatch.setattr(row_blocks.equal_blocks, "__defaults__", (16,))
    monkeypatch.setattr(row_blocks, "MAX_THREADS", 1)
    alone = logistic.fit(problem)
    monkeypatch.setattr(row_blocks, "MAX_THREADS", 4)
    with threadpool_limits(3):
        together = logistic.fit(problem)
    assert alone.classifier.weights.tobytes() == together.classifier.weights.tobytes()
    assert alone.path.losses.tobytes() == together.path.losses.tobytes()


def test_only_judged_rows_count() -> None:
    drawn = draw_problem(60, 9, 3)
    problem = replace(drawn, is_judged=np.arange(60) % 3 == 0)
    out_of_group = logistic.fit(problem).out_of_group
    assert out_of_group.rows.tolist() == list(range(0, 60, 3))
    assert out_of_group.labels.tolist() == drawn.labels[::3].tolist()


def test_degenerate_rows_do_no_harm() -> None:
    """Constant features, duplicates, a class with one image, and a class without."""
    drawn = draw_problem(40, 12, 3)
    features = np.repeat(all_features(drawn), 2, axis=0).astype(np.float32)
    features[:, :4] = 7
    labels, groups = np.repeat(drawn.labels, 2), np.repeat(np.arange(40), 2)
    labels[labels == 2] = 4
    labels[10:12] = 3
    problem = Problem.of(features, labels, groups, 5)
    fit = logistic.fit(problem)
    assert not {10, 11} & set(fit.out_of_group.rows.tolist())
    assert np.isfinite(fit.classifier.weights).all()
    assert fit.out_of_group.log_loss < np.log(3)
    probabilities = softmax(fit.classifier.scores(features.astype(np.float64)))
    assert probabilities[:, 2].max() < 0.05  # it has no image


def test_two_groups_are_two_folds() -> None:
    features = np.array([[0.0, 1], [1, 0], [0.1, 1], [1, 0.1]], np.float32)
    problem = Problem.of(features, np.array([0, 1, 0, 1]), np.array([5, 5, 9, 9]), 2)
    assert logistic.fit(problem).out_of_group.accuracy == 1


def test_features_that_are_not_finite_are_refused() -> None:
    features = np.full((40, 12), np.nan, np.float32)
    problem = Problem.of(features, np.arange(40) % 2, np.arange(40), 2)
    with pytest.raises(PipelineError, match="some features are not finite numbers"):
        logistic.fit(problem)
