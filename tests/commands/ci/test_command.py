from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands.ci import steps
from pipeline.commands.ci.overrides import Overrides
from pipeline.commands.ci.steps import SummaryOptions

Calls = list[tuple[Overrides, SummaryOptions]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls: Calls = []
    monkeypatch.setattr(steps, "run", lambda *arguments: calls.append(arguments))
    return calls


def test_values_are_read_from_environment_variables(calls: Calls) -> None:
    variables = {
        "PIPELINE_DATASET": "",
        "PIPELINE_BACKBONE": "resnet18",
        "PIPELINE_SET": " train.lr=0.003\n train.epochs=$(id)  ",
    }
    assert CliRunner().invoke(app, ["ci"], env=variables).exit_code == 0
    assert calls == [
        (
            Overrides(("model.backbone=resnet18", "train.lr=0.003", "train.epochs=$(id)")),
            SummaryOptions("main", None, None, False),
        ),
    ]


def test_options_override_environment_variables(calls: Calls) -> None:
    words = ["ci", "-S", "train.lr=1", "-S", "train.epochs=2", "--summary", "s.md"]
    CliRunner().invoke(app, words, env={"PIPELINE_SET": "train.lr=3"})
    ((overrides, options),) = calls
    assert overrides.values == ("train.lr=1", "train.epochs=2")
    assert options.file == Path("s.md")
