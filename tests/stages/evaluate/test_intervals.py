"""Intervals cover the truth as often as they claim."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stages.evaluate import intervals
from pipeline.stages.evaluate.intervals import Interval

TRIALS = 2000


@pytest.mark.parametrize(("count", "truth"), [(40, 0.9), (150, 0.95), (400, 0.5)])
def test_wilsons_interval_covers_the_truth_as_often_as_it_claims(count: int, truth: float) -> None:
    found = np.random.default_rng(0).binomial(count, truth, TRIALS)
    known = {right: intervals.wilson(int(right), count) for right in np.unique(found)}
    covered = np.mean([known[right].low <= truth <= known[right].high for right in found])
    assert 0.93 <= covered <= 0.985


def test_the_bootstrap_covers_the_truth_where_images_come_in_groups() -> None:
    """And Wilson's interval does not: five images of a group are right or wrong together."""
    random = np.random.default_rng(0)
    groups = [f"g{number}" for number in range(60) for _ in range(5)]
    drawn = by_formula = 0
    for _ in range(200):
        right = np.repeat(random.random(60) < 0.8, 5)
        one, other = intervals.bootstrap(right, groups), intervals.wilson(int(right.sum()), 300)
        drawn += one.low <= 0.8 <= one.high
        by_formula += other.low <= 0.8 <= other.high
    assert 0.89 <= drawn / 200 <= 0.98
    assert by_formula / 200 < 0.75


@given(st.integers(30, 300), st.floats(0.3, 0.95), st.integers(0, 9))
@settings(deadline=None, derandomize=True, max_examples=30)
def test_of_independent_images_both_intervals_agree(count: int, share: float, seed: int) -> None:
    right = np.random.default_rng(seed).random(count) < share
    one, other = intervals.wilson(int(right.sum()), count), intervals.bootstrap(right, [""] * count)
    assert one.low == pytest.approx(other.low, abs=4 / count + 0.02)
    assert one.high == pytest.approx(other.high, abs=4 / count + 0.02)


def test_the_same_test_set_has_the_same_interval() -> None:
    right = np.random.default_rng(1).random(50) < 0.8
    assert intervals.bootstrap(right, [""] * 50) == intervals.bootstrap(right, [""] * 50)


def test_what_is_always_right_is_not_known_to_be() -> None:
    found = intervals.wilson(20, 20)
    assert found.low == pytest.approx(0.8389, abs=1e-4)
    assert found.high == 1.0
    assert intervals.bootstrap(np.ones(20, bool), [""] * 20) == Interval(1.0, 1.0)


def test_mcnemar_is_the_sign_test_of_the_images_they_differ_on() -> None:
    one = np.array([True] * 90 + [False] * 10)
    other = np.array([True] * 88 + [False] * 2 + [True] * 10)
    assert intervals.mcnemar(one, other) == pytest.approx(0.0385742, abs=1e-6)
    assert intervals.mcnemar(one, one) == 1.0


def test_a_difference_is_of_the_same_images() -> None:
    random = np.random.default_rng(0)
    one = random.random(500) < 0.7
    better = one | (random.random(500) < 0.3)
    found = intervals.difference(one.astype(float), better.astype(float), [""] * 500)
    assert 0 < found.low < better.mean() - one.mean() < found.high
    assert intervals.difference(one.astype(float), one.astype(float), [""] * 500) == Interval(
        0.0, 0.0
    )
