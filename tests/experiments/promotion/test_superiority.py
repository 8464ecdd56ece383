"""The exact test, against all signs written out and against scipy."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from pipeline.experiments.promotion.superiority import holm, p_value
from pipeline.stages.evaluate.intervals import ALONE

ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(-1, 4)), max_size=12)


def columns(rows: list[tuple[bool, bool, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second, groups = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(first, bool), np.array(second, bool), np.array(groups, np.int32)


@given(ANSWERS)
@settings(max_examples=60)
def test_it_is_the_share_of_all_signs_that_give_as_large_a_sum(
    rows: list[tuple[bool, bool, int]],
) -> None:
    first, second, groups = columns(rows)
    sums: dict[int, int] = {}
    for index, group in enumerate(groups.tolist()):
        key = group if group != ALONE else -2 - index
        sums[key] = sums.get(key, 0) + int(second[index]) - int(first[index])
    observed = sum(sums.values())
    signs = list(product((-1, 1), repeat=len(sums)))
    as_large = [
        sum(sign * abs(value) for sign, value in zip(row, sums.values(), strict=True)) >= observed
        for row in signs
    ]
    assert p_value(first, second, groups) == pytest.approx(np.mean(as_large))


@pytest.mark.parametrize(("gained", "lost"), [(30, 10), (10, 30), (5, 0), (0, 0), (900, 700)])
def test_without_groups_it_is_mcnemars(gained: int, lost: int) -> None:
    first = np.array([False] * gained + [True] * lost + [True] * 50)
    second = np.array([True] * gained + [False] * lost + [True] * 50)
    alone = np.full(len(first), ALONE)
    exact = binomtest(gained, gained + lost, alternative="greater").pvalue if gained + lost else 1.0
    assert p_value(first, second, alone) == pytest.approx(exact, rel=1e-9)


def test_many_images_of_one_owner_are_weak_evidence() -> None:
    first, second = np.zeros(20, bool), np.ones(20, bool)
    assert p_value(first, second, np.full(20, ALONE)) == pytest.approx(0.5**20)
    assert p_value(first, second, np.zeros(20, np.int32)) == 0.5


def test_of_a_hundred_thousand_images_the_tail_is_exact() -> None:
    first = np.repeat([True, False], 50_000)
    second = ~first
    second[:800] = True  # 800 lost less
    groups = np.full(len(first), ALONE)
    exact = binomtest(50_000, 99_200, alternative="greater").pvalue
    assert p_value(first, second, groups) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize(
    ("p_values", "rejected"),
    [
        ({"a": 0.01, "b": 0.02, "c": 0.03}, ["a", "b", "c"]),  # 0.05 / 3, / 2, / 1
        ({"a": 0.02, "b": 0.02, "c": 0.02}, []),
        ({"a": 0.04, "b": 0.001}, ["b", "a"]),
        ({}, []),
    ],
)
def test_holm(p_values: dict[str, float], rejected: list[str]) -> None:
    assert holm(p_values, 0.05) == rejected
