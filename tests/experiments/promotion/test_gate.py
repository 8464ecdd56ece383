"""A challenger passes if it is better, and worse at no class."""

from collections.abc import Sequence

import pytest

from pipeline.experiments.predictions import ModelPredictions, Prediction
from pipeline.experiments.promotion.gate import Decision, judge

CLASSES = ("ant", "bee")


def predictions(answers: Sequence[tuple[str, bool]], extra: str = "") -> ModelPredictions:
    """Of images with these labels, each right or wrong; `extra` is one more class."""
    images = {}
    for number, (label, is_right) in enumerate(answers):
        other = CLASSES[1 - CLASSES.index(label)]
        predicted = label if is_right else other
        left_over = other if is_right else label
        probabilities = {predicted: 0.8, left_over: 0.2} | ({extra: 0.0} if extra else {})
        of_label = probabilities[label]
        images[f"{number:064x}"] = Prediction(label, predicted, of_label, probabilities, "")
    return ModelPredictions.of_all_classes(images)


def answers(wrong: set[int], count: int = 200) -> list[tuple[str, bool]]:
    """Half of the images are ants; those with these numbers are classified wrongly."""
    return [(CLASSES[number % 2], number not in wrong) for number in range(count)]


@pytest.mark.parametrize(
    ("wrong_before", "wrong_now", "decision"),
    [
        (set(range(40)), set(range(30, 40)), Decision.BETTER),  # 30 gained
        (set(range(10)), set(range(10)), Decision.NO_DIFFERENCE),
        (set(range(10)), set(range(10, 18)), Decision.NO_DIFFERENCE),  # 10 gained, 8 lost
        (set(range(7)), set(), Decision.BORDERLINE),  # p = 0.5 ** 7, above the level
        (set(range(10)), set(range(40)), Decision.WORSE_CLASS),
        # 60 more bees, 12 fewer ants: better as a whole, but not at ants
        (set(range(1, 121, 2)), set(range(0, 24, 2)), Decision.WORSE_CLASS),
    ],
)
def test_the_decision(wrong_before: set[int], wrong_now: set[int], decision: Decision) -> None:
    result = judge(predictions(answers(wrong_before)), predictions(answers(wrong_now)), 0.001)
    assert result.decision is decision
    assert result.sentence("old", "new")


def test_the_sentence_has_the_evidence() -> None:
    result = judge(predictions(answers(set(range(7)))), predictions(answers(set())), 0.001)
    assert result.sentence("the champion (version 1)", "the challenger") == (
        "the challenger may be better than the champion (version 1), but that is not certain "
        "enough for one of many tests: of 200 test images that neither has seen, 7 gained and 0 "
        "lost (p = 0.0078; this test needs at most 0.001)"
    )


def test_a_class_may_be_added_but_not_lost() -> None:
    before, now = answers(set(range(40))), answers(set())
    assert judge(predictions(before), predictions(now, "cat"), 0.001).decision is Decision.BETTER
    lost = judge(predictions(before, "cat"), predictions(now), 0.001)
    assert lost.decision is Decision.LOST_CLASS
    assert lost.sentence("old", "new") == "new does not know cat, which old does"


def test_the_level_decides() -> None:
    """Seven gained and none lost: p = 0.0078."""
    before, now = predictions(answers(set(range(7)))), predictions(answers(set()))
    assert judge(before, now, 0.0079).decision is Decision.BETTER
    assert judge(before, now, 0.0077).decision is Decision.BORDERLINE
