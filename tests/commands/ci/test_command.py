from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands.ci import steps
from pipeline.commands.ci.overrides import Overrides
from pipeline.commands.ci.steps import SummaryOptions

Called = list[tuple[Overrides, SummaryOptions]]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Called:
    found: Called = []
    monkeypatch.setattr(steps, "run", lambda *given: found.append(given))
    return found


def test_a_form_on_the_web_comes_as_variables(called: Called) -> None:
    variables = {
        "PIPELINE_DATASET": "",
        "PIPELINE_BACKBONE": "resnet18",
        "PIPELINE_SET": " train.lr=0.003\n train.epochs=$(id)  ",
    }
    assert CliRunner().invoke(app, ["ci"], env=variables).exit_code == 0
    assert called == [
        (
            Overrides(("model.backbone=resnet18", "train.lr=0.003", "train.epochs=$(id)")),
            SummaryOptions("main", None, None, False),
        ),
    ]


def test_options_win_over_variables(called: Called) -> None:
    words = ["ci", "-S", "train.lr=1", "-S", "train.epochs=2", "--summary", "s.md"]
    CliRunner().invoke(app, words, env={"PIPELINE_SET": "train.lr=3"})
    ((asked, telling),) = called
    assert asked.changes == ("train.lr=1", "train.epochs=2")
    assert telling.file == Path("s.md")
