from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.network.abstention import Abstention, AbstentionRule, Distance
from pipeline.stages.evaluate.abstention_result import (
    NOTHING,
    ImageSets,
    SetCounter,
    describe_sets,
    write_sets,
)
from pipeline.stages.evaluate.intervals import ALONE

LABELS = np.array([0, 1, 1, 2])
PROBABILITIES = np.array(
    [[0.9, 0.05, 0.05], [0.5, 0.4, 0.1], [0.6, 0.1, 0.3], [0.3, 0.2, 0.5]], np.float32
)


def make_rule(**changes: float | None) -> AbstentionRule:
    facts = {
        "coverage": 0.95,
        "least_probability": 0.29,
        "coverage_low": 0.9,
        "coverage_high": 0.99,
        "false_alarms": 0.05,
        "farthest": 1.0,
        "groups": 100,
        "images": 120,
    }
    tensors = {
        "means": torch.zeros(3, 2),
        "directions": torch.zeros(0, 2),
        "weights": torch.ones(1),
    }
    return AbstentionRule(Abstention.model_validate(facts | changes), Distance(tensors))


def count_sets(rule: AbstentionRule) -> ImageSets:
    counter = SetCounter(rule, 2.0, LABELS)
    scores = 2 * np.log(PROBABILITIES)
    batches = [scores[:3], scores[3:]]
    assert [*map(len, counter.watch(batches))] == [3, 1]
    return counter.result(np.array([[0.0, 0.0], [3.0, 0.0]]))


def test_sets_are_counted_over_batches_and_written_by_class(tmp_path: Path) -> None:
    sets = count_sets(make_rule())
    assert sets.sizes.tolist() == [1, 2, 2, 2]
    assert sets.covered.tolist() == [True, True, False, True]
    assert sets.far.tolist() == [False, True]
    write_sets(tmp_path / "abstention.csv", sets, LABELS, ["a", "b", "c", "d"])
    assert (tmp_path / "abstention.csv").read_text().splitlines() == [
        "label,n,covered,single,set_size",
        "a,1,1,1,1.0",
        "b,2,1,0,2.0",
        "c,1,1,0,2.0",
        "d,0,0,0,",
    ]


def describe(count: int, **changes: float | None) -> str:
    """The paragraph for `count` images, of which every tenth is not covered."""
    sets = ImageSets(
        np.where(np.arange(count) % 2, 1, 2), np.arange(count) % 10 > 0, np.arange(count) == 3
    )
    promises = make_rule(**changes).abstention
    return " ".join(describe_sets(promises, sets, np.full(count, ALONE), classes=3))


def test_the_report_says_what_is_promised_and_what_came_of_it() -> None:
    text = describe(40)
    assert "95 % of new images of new groups" in text
    assert "120 validation images in 100 groups, used for nothing else" in text
    assert "is 90.0 % to 99.0 % (95 % interval)" in text
    assert "On the test set they held it for 90.0 % of images (95 % interval " in text
    assert "50.0 % of the sets have a single class, and on average they have 1.50 of 3" in text
    assert "“None of these” was the answer to 1 of 40 test images; 5 % are expected." in text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"least_probability": 0.0}, "Its sets hold all classes: "),
        ({"farthest": None}, "It never answers “none of these”: too few images for"),
    ],
)
def test_the_report_says_what_too_few_images_cannot_promise(
    changes: dict[str, float | None], sentence: str
) -> None:
    assert sentence in describe(40, **changes)


def test_a_model_that_promises_nothing_is_one_sentence() -> None:
    assert describe_sets(None, None, np.zeros(0, np.int32), 2) == [NOTHING]
