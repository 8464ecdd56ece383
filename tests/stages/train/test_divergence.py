"""A loss that does not fall is named; one that falls slowly, or is noisy, is not."""

import pytest

from pipeline.core.history import Record
from pipeline.params import Params
from pipeline.stages.train.divergence import describe_divergence
from tests.builders.params import override


def history(*losses: float) -> list[Record]:
    """Of a validation that is right on each image, whatever the training loss."""
    return [
        Record(number, number, 0.1, loss, 0.5, 0.0, 1.0)
        for number, loss in enumerate(losses, start=1)
    ]


@pytest.mark.parametrize(
    ("losses", "problem"),
    [
        ((260, 226, 240), "never fell below 226, and guessing one of 2 classes has 0.693: "),
        ((1.2,), "never fell below 1.2, and guessing one of 2 classes has 0.693: "),
        ((0.5, 0.4, 7.0), "grew from 0.5 to 7: "),
        ((0.7, 0.5, 0.2), ""),
        ((0.9,), ""),  # one epoch from random weights
        ((0.1, 0.25), ""),  # noise of small batches
    ],
)
def test_a_loss_that_does_not_fall_is_named(
    params: Params, losses: tuple[float, ...], problem: str
) -> None:
    sentence = describe_divergence(history(*losses), 2, override(params, train__lr=10.0).train)
    assert problem in sentence
    assert bool(problem) == bool(sentence)
    assert not sentence or sentence.endswith(": lower train.lr, or set train.clip_norm=1")


def test_what_is_set_already_is_not_advised(params: Params) -> None:
    changed = override(params, train__lr=10.0, train__clip_norm=1.0).train
    assert describe_divergence(history(9), 2, changed).endswith(": lower train.lr")
