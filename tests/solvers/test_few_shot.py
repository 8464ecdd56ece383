import numpy as np
import pytest

from pipeline.core.errors import PipelineError
from pipeline.solvers import few_shot, ridge
from pipeline.solvers.few_shot import FewShotEstimate
from pipeline.solvers.problem import Mask, Numbers, Problem
from tests.builders.feature_rows import draw_problem


def pool(seed: int, groups: int = 30) -> Problem:
    """Pairs of similar images, of two classes, drawn from one population."""
    random = np.random.default_rng(seed)
    labels = np.arange(groups) % 2
    centres = random.normal(size=(groups, 4)) + 1.2 * np.eye(2, 4)[labels]
    features = np.repeat(centres, 2, axis=0) + 0.3 * random.normal(size=(2 * groups, 4))
    numbers = np.repeat(np.arange(groups), 2)
    return Problem.of(features.astype(np.float32), np.repeat(labels, 2), numbers, 2)


def test_the_interval_contains_the_accuracy_in_the_population() -> None:
    """Over other pools of images: 95 % of the intervals should, and 40 pools show 85 or more."""
    estimates = [few_shot.estimate(pool(seed), draws=10) for seed in range(40)]
    truth = np.mean([estimate.mean for estimate in estimates])
    covered = np.mean([estimate.low <= truth <= estimate.high for estimate in estimates])
    assert covered >= 0.85
    widths = [estimate.high - estimate.low for estimate in estimates]
    assert np.mean(widths) < 0.35  # so that it says something


def test_a_draw_has_images_of_different_groups_which_are_not_tested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem, fits = pool(0), list[Problem]()
    fit = ridge.fit

    def spy(small: Problem) -> ridge.RidgeFit:
        fits.append(small)
        return fit(small)

    monkeypatch.setattr(ridge, "fit", spy)
    tested: list[set[int]] = []
    original = few_shot._rows_of_other_groups

    def rows_of_other_groups(problem: Problem, is_drawn: Mask) -> Numbers:
        rows = original(problem, is_drawn)
        tested.append(set(problem.groups[rows].tolist()))
        return rows

    monkeypatch.setattr(few_shot, "_rows_of_other_groups", rows_of_other_groups)
    estimate = few_shot.estimate(problem, shots=4, draws=6)
    assert len(estimate.accuracies) == len(fits) == 6
    for small, groups in zip(fits, tested, strict=True):
        assert np.bincount(small.labels).tolist() == [4, 4]
        drawn = small.groups.tolist()
        assert len(set(drawn)) == 8
        assert groups == set(range(30)) - set(drawn)


def test_the_seed_decides() -> None:
    first, second, other = (few_shot.estimate(pool(0), draws=5, seed=seed) for seed in (1, 1, 2))
    assert first.accuracies.tobytes() == second.accuracies.tobytes()
    assert (first.low, first.high) == (second.low, second.high)
    assert first.accuracies.tobytes() != other.accuracies.tobytes()


def test_the_spread_has_most_draws() -> None:
    accuracies = np.linspace(0.5, 0.9, 41)
    low, high = FewShotEstimate(5, accuracies, 0.6, 0.8).spread
    assert low == pytest.approx(0.51)
    assert high == pytest.approx(0.89)


def test_easy_classes_are_always_right() -> None:
    estimate = few_shot.estimate(draw_problem(80, 20, 3, distance=30), draws=5)
    assert (estimate.mean, estimate.low, estimate.high) == (1, 1, 1)


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(PipelineError, match="a class has images of 15 groups, and an estimate for"):
        few_shot.estimate(pool(0), shots=15)
