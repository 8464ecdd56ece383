"""The journal of a sweep, of which a kill or a disk may leave any bytes."""

import json
from pathlib import Path

import pytest

from pipeline.commands.sweep.journal import DIGEST, EndedTrial, Journal, TrialState
from pipeline.core.history import Record

TRIALS = [
    EndedTrial(
        number,
        TrialState.COMPLETE,
        {"train.lr": 0.1},
        {"train.lr": 0.1},
        [Record(1, 1.0, 0.1, 0.7, 0.5, val_loss=0.6, val_accuracy=0.5)],
        start_ms=1,
        end_ms=2,
    )
    for number in range(2)
]


@pytest.fixture
def path(world: Path) -> Path:
    """The file of a journal with two trials."""
    with Journal("key") as journal:
        for trial in TRIALS:
            journal.add(trial)
    return journal.path


def read() -> list[EndedTrial]:
    with Journal("key") as journal:
        return journal.trials


def test_trials_are_read_as_they_were_added(path: Path) -> None:
    assert read() == TRIALS


@pytest.mark.parametrize(
    "line",
    ["", "{", "[" * 100_000, "[]", "1", "null", "{}", json.dumps({DIGEST: "0" * 64})],
    ids=["empty", "cut off", "deep", "list", "number", "null", "no digest", "other digest"],
)
def test_trials_from_a_damaged_line_on_are_left_out(
    path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    first, second = path.read_text().splitlines(keepends=True)
    path.write_text(f"{first}{line}\n{second}")
    assert read() == TRIALS[:1]
    assert path.read_text() == first
    assert f"{path} is damaged: trials from 1 on are run again" in capsys.readouterr().err


def test_a_trial_of_another_number_is_left_out(path: Path) -> None:
    path.write_text(path.read_text().splitlines(keepends=True)[1])
    assert read() == []
