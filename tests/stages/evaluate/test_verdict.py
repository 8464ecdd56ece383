from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.stages.evaluate import intervals, metrics, verdict
from pipeline.stages.evaluate.intervals import ALONE, Groups, Interval
from pipeline.stages.evaluate.metrics import Figures
from pipeline.stages.evaluate.verdict import Outcome
from tests.builders.results import result_of


def alone(count: int) -> Groups:
    return np.full(count, ALONE, np.int32)


def figures_of(right: list[bool], groups: Groups) -> Figures:
    scores = np.eye(2)[[0 if is_right else 1 for is_right in right]]
    result = result_of([0] * len(right), scores, ["a", "b"])
    return metrics.summarise(
        result.labels, result.calibrated, result.top, result.class_figures, groups
    )


@pytest.mark.parametrize(
    ("low", "high", "outcome", "title"),
    [
        (0.95, 0.99, Outcome.GOOD, "Target of 95.0 % reached"),
        (0.90, 0.949, Outcome.BAD, "Target of 95.0 % missed"),
        (0.949, 0.99, Outcome.OPEN, "Target of 95.0 % neither reached nor missed"),
        (0.90, 0.95, Outcome.OPEN, "Target of 95.0 % neither reached nor missed"),
    ],
)
def test_a_target_is_reached_by_the_whole_interval(
    low: float, high: float, outcome: Outcome, title: str
) -> None:
    judged = verdict.judge_against_target(0.95, Interval(low, high))
    assert (judged.outcome, judged.title) == (outcome, title)


def test_the_interval_is_wilsons_of_independent_images() -> None:
    right = [True] * 15 + [False] * 5
    figures = figures_of(right, alone(20))
    assert verdict.accuracy_interval(figures, alone(20)) == intervals.wilson(15, 20)


def test_the_interval_of_grouped_images_is_wider() -> None:
    right = [True] * 15 + [False] * 5
    groups = np.repeat(np.arange(4, dtype=np.int32), 5)
    interval = verdict.accuracy_interval(figures_of(right, groups), groups)
    assert interval.high - interval.low > 0.5 > 2 * 0.25 * 0.75


def test_equal_groups_count_once_each() -> None:
    groups = np.repeat(np.arange(4, dtype=np.int32), 5)
    figures = figures_of([True] * 20, groups)
    assert verdict.accuracy_interval(figures, groups) == intervals.wilson(4, 4)


@pytest.mark.parametrize(
    ("gained", "lost", "outcome"),
    [(6, 0, Outcome.GOOD), (5, 0, Outcome.OPEN), (0, 6, Outcome.BAD), (9, 9, Outcome.OPEN)],
)
def test_a_difference_counts_from_six_gained_and_none_lost(
    gained: int, lost: int, outcome: Outcome
) -> None:
    first = np.array([False] * gained + [True] * lost + [True] * 20)
    second = np.array([True] * gained + [False] * lost + [True] * 20)
    judged = verdict.judge_difference(
        first,
        second,
        alone(len(first)),
        better="better",
        worse="worse",
        equal="equal",
        of_first="On all",
    )
    titles = {Outcome.GOOD: "better", Outcome.BAD: "worse", Outcome.OPEN: "equal"}
    assert (judged.outcome, judged.title) == (outcome, titles[outcome])
    points = 100 * (gained - lost) / len(first)
    assert f"On all: {points:+.1f} points" in judged.evidence


def test_the_majority_is_that_of_the_training_images() -> None:
    labels = np.repeat([0, 1], [12, 8])
    training = np.array([1, 1, 1, 0])
    judged = verdict.judge_against_majority(
        labels, labels, training, ["ant", "bee\u202e"], alone(20)
    )
    assert judged.outcome is Outcome.GOOD
    assert "always answering “bee\\u202e”" in judged.title
    assert judged.evidence.startswith(
        "That would be right on 40.0 %: +60.0 points, 95 % interval +"
    )
    assert judged.evidence.endswith("McNemar's p < 0.001.")


def test_a_model_that_answers_the_majority_is_not_better() -> None:
    labels = np.repeat([0, 1], [12, 8])
    always = np.zeros(20, np.int64)
    judged = verdict.judge_against_majority(labels, always, labels, ["ant", "bee"], alone(20))
    assert judged.outcome is Outcome.OPEN
    assert judged.title.startswith("Not shown to be better than")
    assert judged.evidence == "That would be right on 60.0 %: +0.0 points, McNemar's p = 1."


def test_few_images_are_counts() -> None:
    labels = np.array([0, 0, 1, 1])
    judged = verdict.judge_against_majority(labels, labels, labels, ["ant", "bee"], alone(4))
    assert judged.evidence == (
        "That would be right on 2 of 4: 4 instead of 2 of 4 images right, McNemar's p = 0.5."
    )


@pytest.mark.parametrize(
    ("leaked", "evidence"),
    [
        ([], None),
        ([0], "1 test image is of a group {}: 90.0 % right with it, 89.5 % without."),
        ([0, 1, 2], "3 test images are of a group {}: 90.0 % right with them, 88.2 % without."),
        (range(15), "15 test images are of a group {}: 90.0 % right with them, 3 of 5 without."),
        (
            range(20),
            "20 test images are of a group {}: 90.0 % right with them, and there are no others.",
        ),
    ],
)
def test_leaked_images_are_priced(leaked: Sequence[int], evidence: str | None) -> None:
    right, is_leaked = np.arange(20) < 18, np.isin(np.arange(20), leaked)
    judged = verdict.judge_leaks(right, is_leaked)
    group = (
        "(near-duplicates, or the same owner) that the model was trained or validated on "
        "(split.leaks=keep)"
    )
    assert (judged and judged.evidence) == (evidence and evidence.format(group))
    assert judged is None or judged.outcome is Outcome.BAD
