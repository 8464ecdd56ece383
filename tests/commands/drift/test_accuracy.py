import numpy as np
import pytest

from pipeline.commands.drift import accuracy
from pipeline.commands.drift.accuracy import AccuracyEstimate, estimate_accuracy
from pipeline.stages.evaluate.intervals import ALONE, Groups


def groups(count: int) -> Groups:
    return np.full(count, ALONE, np.int32)


def test_the_estimate_is_the_accuracy_less_what_the_model_is_less_sure() -> None:
    right = np.arange(100) >= 10
    estimate = estimate_accuracy(
        np.full(50, 0.6), groups(50), np.full(100, 0.8), right, groups(100)
    )
    assert estimate.accuracy == pytest.approx(0.7)
    assert estimate.test_accuracy == 0.9
    assert estimate.confidence == pytest.approx(0.6)
    assert estimate.interval is not None
    assert estimate.interval.low == pytest.approx(0.56, abs=0.03)  # 1.96 sqrt(0.21/50 + 0.09/100)
    assert estimate.interval.high == pytest.approx(0.84, abs=0.03)


def draw_case(random: np.random.Generator, tests: int, new: int) -> tuple[AccuracyEstimate, float]:
    """The estimate of a model that doubts as it should, and its accuracy on the new images."""
    confidence = np.clip(random.beta(30, 1, tests), 0.5, 1)
    right = random.uniform(size=tests) < confidence
    new_confidence = np.clip(0.9 * random.beta(30, 1, new), 0.5, 1)
    accuracy_on_them = float((random.uniform(size=new) < new_confidence).mean())
    estimate = estimate_accuracy(new_confidence, groups(new), confidence, right, groups(tests))
    return estimate, accuracy_on_them


@pytest.mark.parametrize(
    ("tests", "new", "is_all_right"),
    [(41, 20, False), (41, 20, True), (41, 200, True), (300, 60, False)],
)
def test_the_interval_covers_the_accuracy_on_these_very_images(
    monkeypatch: pytest.MonkeyPatch, tests: int, new: int, is_all_right: bool
) -> None:
    monkeypatch.setattr(accuracy, "DRAWS", 200)
    random = np.random.default_rng(0)
    cases, covered = 0, 0
    while cases < 60:
        estimate, accuracy_on_them = draw_case(random, tests, new)
        if is_all_right and estimate.test_accuracy < 1:
            continue
        assert estimate.interval is not None
        cases += 1
        low, high = estimate.interval.low, estimate.interval.high
        covered += low - 1e-9 <= accuracy_on_them <= high + 1e-9
    assert covered >= 51  # of 60 with a probability of 0.95, 50 or fewer come with one of 0.0006


def test_an_all_right_test_set_is_no_proof_of_the_model() -> None:
    estimate = estimate_accuracy(
        np.full(2000, 0.97), groups(2000), np.full(41, 0.97), np.ones(41, bool), groups(41)
    )
    assert estimate.interval is not None
    # The Beta(41.5, 0.5) distribution of the accuracy on the test images has 2.5 % below 0.941.
    assert estimate.interval.low == pytest.approx(0.941, abs=0.012)
    assert estimate.interval.high == 1


@pytest.mark.parametrize(("count", "has_interval"), [(1, False), (19, False), (20, True)])
def test_few_new_images_have_no_interval(count: int, has_interval: bool) -> None:
    numbers = np.repeat(np.arange(count, dtype=np.int32), 3)  # near-duplicates count once
    estimate = estimate_accuracy(
        np.full(3 * count, 0.7), numbers, np.full(41, 0.98), np.ones(41, bool), groups(41)
    )
    assert (estimate.interval is not None) == has_interval
    assert estimate.accuracy == pytest.approx(0.72)


def test_images_of_one_group_make_the_interval_wider() -> None:
    random = np.random.default_rng(0)
    confidence = np.repeat(random.uniform(0.5, 1, 20), 10)
    test, right = np.full(400, 0.9), np.arange(400) % 10 > 0
    alone = estimate_accuracy(confidence, groups(200), test, right, groups(400))
    together = estimate_accuracy(
        confidence, np.repeat(np.arange(20, dtype=np.int32), 10), test, right, groups(400)
    )
    assert together.accuracy == alone.accuracy
    assert alone.interval is not None
    assert together.interval is not None
    assert together.interval.high - together.interval.low > 1.3 * (
        alone.interval.high - alone.interval.low
    )
