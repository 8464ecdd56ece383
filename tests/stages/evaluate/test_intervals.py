"""Confidence intervals contain the true value as often as they should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import columns
from pipeline.stages.evaluate import intervals
from pipeline.stages.evaluate.intervals import Interval

TRIALS = 2000


def alone(count: int) -> intervals.Groups:
    """Images without groups."""
    return np.full(count, intervals.ALONE, np.int32)


def test_groups_are_numbered_by_their_names() -> None:
    names = columns.collect(["b", "", "a", "b", ""])
    b, first, a, again, second = intervals.number_groups(names).tolist()
    assert b == again
    assert (first, second) == (intervals.ALONE, intervals.ALONE)
    assert len({a, b, intervals.ALONE}) == 3
    assert intervals.count_groups(intervals.number_groups(names)) == 4
    assert intervals.number_groups(columns.texts([])).tolist() == []


@pytest.mark.parametrize(("count", "truth"), [(40, 0.9), (150, 0.95), (400, 0.5)])
def test_wilsons_interval_contains_the_truth_95_times_of_100(count: int, truth: float) -> None:
    draws = np.random.default_rng(0).binomial(count, truth, TRIALS)
    by_right = {right: intervals.wilson(int(right), count) for right in np.unique(draws)}
    covered = np.mean([by_right[right].low <= truth <= by_right[right].high for right in draws])
    assert 0.93 <= covered <= 0.985


def test_of_grouped_images_the_bootstrap_contains_the_truth() -> None:
    """Wilson's interval does not: five images of a group are right or wrong together."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(60, dtype=np.int32), 5)
    in_bootstrap = in_wilson = 0
    for _ in range(200):
        right = np.repeat(random.random(60) < 0.8, 5)
        bootstrap = intervals.bootstrap(right, groups)
        wilson = intervals.wilson(int(right.sum()), 300)
        in_bootstrap += bootstrap.low <= 0.8 <= bootstrap.high
        in_wilson += wilson.low <= 0.8 <= wilson.high
    assert 0.89 <= in_bootstrap / 200 <= 0.98
    assert in_wilson / 200 < 0.75


@given(st.integers(30, 300), st.floats(0.3, 0.95), st.integers(0, 9))
@settings(derandomize=True, max_examples=30)
def test_of_independent_images_both_intervals_agree(count: int, share: float, seed: int) -> None:
    right = np.random.default_rng(seed).random(count) < share
    wilson, bootstrap = (
        intervals.wilson(int(right.sum()), count),
        intervals.bootstrap(right, alone(count)),
    )
    assert wilson.low == pytest.approx(bootstrap.low, abs=4 / count + 0.02)
    assert wilson.high == pytest.approx(bootstrap.high, abs=4 / count + 0.02)


def test_the_same_test_set_has_the_same_interval() -> None:
    right = np.random.default_rng(1).random(50) < 0.8
    assert intervals.bootstrap(right, alone(50)) == intervals.bootstrap(right, alone(50))


def test_20_of_20_right_is_not_certain_to_be_100_percent() -> None:
    wilson = intervals.wilson(20, 20)
    assert wilson.low == pytest.approx(0.8389, abs=1e-4)
    assert wilson.high == 1.0
    assert intervals.bootstrap(np.ones(20, bool), alone(20)) == Interval(1.0, 1.0)


def test_mcnemar_is_the_sign_test_of_the_disagreements() -> None:
    first = np.array([True] * 90 + [False] * 10)
    second = np.array([True] * 88 + [False] * 2 + [True] * 10)
    assert intervals.mcnemar(first, second) == pytest.approx(0.0385742, abs=1e-6)
    assert intervals.mcnemar(first, first) == 1.0


def test_a_difference_is_paired_by_image() -> None:
    random = np.random.default_rng(0)
    model = random.random(500) < 0.7
    better = model | (random.random(500) < 0.3)
    own, others = model.astype(float), better.astype(float)
    interval = intervals.difference(own, others, alone(500))
    assert 0 < interval.low < better.mean() - model.mean() < interval.high
    assert intervals.difference(own, own, alone(500)) == Interval(0.0, 0.0)
