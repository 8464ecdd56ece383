"""Sentences say neither more nor less than the figures."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import columns
from pipeline.stages.evaluate import intervals
from pipeline.stages.evaluate.confusions import (
    Confusion,
    count_confusions,
    describe_most_frequent,
)
from pipeline.stages.evaluate.metrics import CalibrationFigures, Figures, ResultFigures
from pipeline.stages.evaluate.sentences import describe_calibration, describe_interval

CLASSES = ["ant", "bee", "cat", *"abc"]


def count(*pairs: tuple[str, str]) -> list[Confusion]:
    """The mistakes among pairs of a true and a predicted class."""
    numbers = np.array([[CLASSES.index(name) for name in pair] for pair in pairs])
    return count_confusions(numbers[:, 0], numbers[:, 1], CLASSES)


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ([("ant", "ant")], "It makes no mistake on them."),
        ([("ant", "bee"), ("ant", "ant")], "It most often takes ant for bee (once)."),
        (
            [("ant", "bee"), ("bee", "ant"), ("bee", "ant")],
            "It most often takes bee for ant (2 times).",
        ),
        (
            [("bee", "ant"), ("ant", "bee"), ("cat", "bee")],
            "It most often takes ant for bee and bee for ant and cat for bee (once each).",
        ),
        (
            [(a, b) for a in "abc" for b in "abc"] * 2,
            "6 pairs of classes are confused most often: 2 times each.",
        ),
    ],
)
def test_ties_are_reported(pairs: list[tuple[str, str]], sentence: str) -> None:
    assert describe_most_frequent(count(*pairs)) == sentence
    assert describe_most_frequent(count(*reversed(pairs))) == sentence


def test_equally_frequent_mistakes_are_in_the_order_of_their_names() -> None:
    confusions = count(("b", "a"), ("c", "a"), ("a", "b"), ("c", "a"), ("a", "a"))
    expected = [Confusion("c", "a", 2), Confusion("a", "b", 1), Confusion("b", "a", 1)]
    assert confusions == expected


def figures_of(right: Sequence[bool], groups: intervals.Groups) -> Figures:
    wilson = intervals.wilson(sum(right), len(right))
    bootstrap = intervals.bootstrap(np.array(right), groups)
    return {
        "accuracy": sum(right) / len(right),
        "accuracy.wilson_low": wilson.low,
        "accuracy.wilson_high": wilson.high,
        "accuracy.bootstrap_low": bootstrap.low,
        "accuracy.bootstrap_high": bootstrap.high,
    }


@pytest.mark.parametrize(
    ("right", "groups", "sentence"),
    [
        (
            [True] * 8 + [False] * 8,
            [""] * 16,
            "The interval at the top is Wilson's, for independent images; bootstrapping gives "
            "25.0 % to 75.0 %.",
        ),
        (
            [True] * 20,
            [""] * 20,
            "The interval at the top is Wilson's, for independent images.",
        ),
        (
            [True] * 20,
            ["a", "a", "b", "b"] * 5,
            "The interval at the top counts each of the 2 groups once (Wilson's), because images "
            "of one group (of one owner, or near-duplicates) are right or wrong together. If all "
            "images were independent, Wilson's interval would be 83.9 % to 100.0 %.",
        ),
        (
            [True, True, False, True] * 5,
            ["a", "a", "b", "b"] * 5,
            "The interval at the top comes from resampling the 2 groups (bootstrap), because "
            "images of one group (of one owner, or near-duplicates) are right or wrong together. "
            "If all images were independent, Wilson's interval would be 53.1 % to 88.8 %.",
        ),
        (
            [True, False] * 10,
            ["a"] * 20,
            "All test images are of one group, and images of one group (of one owner, or "
            "near-duplicates) are right or wrong together: the interval at the top counts them as "
            "one image, and they say little of others.",
        ),
    ],
)
def test_the_interval_at_the_top_and_the_other_one_are_told_apart(
    right: list[bool], groups: list[str], sentence: str
) -> None:
    numbers = intervals.number_groups(columns.texts(groups))
    assert describe_interval(figures_of(right, numbers), numbers) == sentence


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["", "a", "b", "c"])), min_size=1))
def test_no_interval_has_zero_width(images: list[tuple[bool, str]]) -> None:
    right, groups = map(list, zip(*images, strict=True))
    numbers = intervals.number_groups(columns.texts(groups))
    sentence = describe_interval(figures_of(right, numbers), numbers)
    for low, high in re.findall(r"([\d.]+) % to ([\d.]+) %", sentence):
        assert float(low) < float(high)


@pytest.mark.parametrize(
    ("n", "end"),
    [
        (9, "9 images are too few to measure how far the probabilities are off."),
        (149, "without it, by 100.0 %. With only 149 images, part of that is chance."),
        (150, "With it, the probabilities are off by < 0.1 % on average; without it, by 100.0 %."),
    ],
)
def test_the_calibration_error_of_few_images(n: int, end: str) -> None:
    as_trained = CalibrationFigures("as trained", 1.0, 0.0, 1.0)
    calibrated = CalibrationFigures("calibrated", 1.0, 0.0, 0.0001)
    figures = ResultFigures({"n": n}, [], [], as_trained, calibrated)
    assert describe_calibration(figures).endswith(end)
