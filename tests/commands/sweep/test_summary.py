"""What the summary of a sweep says of its winner."""

import pytest

from pipeline.commands.sweep import search_space
from pipeline.commands.sweep.goal import Goal
from pipeline.commands.sweep.journal import EndedTrial, TrialState
from pipeline.commands.sweep.summary import SweepResult, describe_ties
from pipeline.core.history import Record
from pipeline.params import Params

ADVICE = ". Train the winner, then check with `pipeline compare` whether it is better than your "


def result_of(accuracies: list[float], params: Params) -> SweepResult:
    """A sweep by validation loss, which rises from trial to trial."""
    trials = [
        EndedTrial(
            number,
            TrialState.COMPLETE,
            {},
            {},
            [Record(1, 1, 0.1, 1, 0, val_loss=0.1 + number, val_accuracy=accuracy)],
            start_ms=0,
            end_ms=1,
        )
        for number, accuracy in enumerate(accuracies)
    ]
    space = search_space.parse(["train.lr=interval(0.1,0.2)"], params)
    return SweepResult(space, Goal.VAL_LOSS, 1, trials)


@pytest.mark.parametrize(
    ("accuracies", "sentence"),
    [
        ([0.9, 0.8], ""),
        (
            [0.9, 0.9, 0.8],
            "2 of 3 complete trials have as many validation images right as the winner: they "
            "differ in confidence alone",
        ),
        (
            [0.9, 0.95, 0.9],
            "1 of 3 complete trials got more validation images right than the winner, whose "
            "validation loss is the lowest",
        ),
    ],
)
def test_trials_as_accurate_as_the_winner_or_more_are_mentioned(
    accuracies: list[float], sentence: str, params: Params
) -> None:
    described = describe_ties(result_of(accuracies, params))
    assert described.startswith(sentence + ADVICE if sentence else "")
    assert bool(described) == bool(sentence)
