"""The promise of thresholds: by simulation, and by properties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.train import conformal

LEVEL = 0.95
SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=60)  # many ties


def alone(count: int) -> np.ndarray:
    return np.arange(count)


@pytest.mark.parametrize(("level", "least"), [(0.95, 19), (0.9, 9), (0.99, 99), (0.5, 1)])
def test_fewer_groups_than_the_least_promise_nothing(level: float, least: int) -> None:
    assert conformal.least_groups(level) == least
    for count in (0, least - 1):
        assert math.isinf(conformal.threshold(np.zeros(count), alone(count), level))
    assert conformal.threshold(np.zeros(least), alone(least), level) == 0


@given(SCORES, st.floats(0.05, 0.99))
def test_images_on_their_own_have_the_usual_quantile(scores: list[int], level: float) -> None:
    rank = math.ceil(level * (len(scores) + 1) - 1e-9)
    expected = sorted(scores)[rank - 1] if rank <= len(scores) else math.inf
    values = np.array(scores, float)
    assert conformal.threshold(values, alone(len(scores)), level) == expected


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 8)), min_size=1, max_size=60))
def test_of_a_new_group_in_the_place_of_any_the_level_holds(pairs: list[tuple[int, int]]) -> None:
    """The proof of the guarantee: leave a group out in turn, and count its covered images."""
    scores, groups = (np.array(column) for column in zip(*pairs, strict=True))
    numbers = np.unique(groups)
    shares = []
    for number in numbers:
        rest = groups != number
        limit = conformal.threshold(scores[rest].astype(float), groups[rest], LEVEL / 2)
        shares.append(np.mean(scores[~rest] <= limit))
    assert np.mean(shares) >= LEVEL / 2 - 1e-9


@given(SCORES, st.floats(0.05, 0.9), st.floats(0, 0.09), st.integers(1, 4))
def test_thresholds_grow_with_the_level_and_do_not_depend_on_copies_within_groups(
    scores: list[int], level: float, more: float, copies: int
) -> None:
    values, groups = np.array(scores, float), alone(len(scores))
    limit = conformal.threshold(values, groups, level)
    assert limit <= conformal.threshold(values, groups, level + more)
    assert limit == conformal.threshold(values.repeat(copies), groups.repeat(copies), level)


@pytest.mark.parametrize("size", [1, 4])
def test_the_coverage_is_95_percent_and_varies_as_stated(size: int) -> None:
    """Scores of a group are correlated: an effect of the group, and one of the image."""
    random, count, repetitions = np.random.default_rng(0), 99, 2000
    low, high = conformal.coverage_interval(count, LEVEL)
    groups = alone(count).repeat(size)
    coverages = np.empty(repetitions)
    for number in range(repetitions):
        scores = random.normal(size=(count, 1)) + random.normal(size=(count, size))
        limit = conformal.threshold(scores.ravel(), groups, LEVEL)
        coverages[number] = 0.5 * (1 + math.erf(limit / 2))  # of the sum of two normals
    inside = float(((low <= coverages) & (coverages <= high)).mean())
    if size == 1:
        assert coverages.mean() == pytest.approx(0.95, abs=0.003)
        assert inside == pytest.approx(0.95, abs=0.015)
    else:  # several images of a group say more than one, and the new group has the largest score
        assert 0.95 <= coverages.mean() <= 0.96
        assert inside > 0.98


def test_the_interval_is_that_of_the_beta_distribution() -> None:
    from scipy.stats import beta

    for count in (19, 50, 99, 2500):
        rank = math.ceil(LEVEL * (count + 1) - 1e-9)
        expected = beta.ppf([0.025, 0.975], rank, count + 1 - rank)
        assert conformal.coverage_interval(count, LEVEL) == pytest.approx(expected, abs=1e-9)
    assert conformal.coverage_interval(18, LEVEL) == (1, 1)
