import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.ci import summary
from pipeline.commands.ci.dvc_steps import Stages
from pipeline.commands.ci.overrides import Overrides
from pipeline.commands.ci.revisions import Revision
from pipeline.commands.ci.summary import Facts, Verdict
from pipeline.core.errors import PipelineError
from pipeline.experiments.predictions import Prediction
from pipeline.params import load_params
from tests import ROOT

NOW = load_params(ROOT / "params.yaml").flat()
SAID = {"1": Prediction("<b>", "a|b", 0.5, "")}


class Before(Revision):
    """A revision that git need not know."""

    def metrics(self) -> dict[str, Any]:
        return {"accuracy": 0.5, "accuracy.wilson_low": 0.4, "accuracy.wilson_high": 0.6, "n": 40}

    def params(self) -> dict[str, object]:
        return NOW


class Bare(Before):
    def metrics(self) -> dict[str, Any]:
        raise PipelineError("it has none")


def facts(against: Revision | None, values: dict[str, object] | None = None) -> Facts:
    return Facts(
        Overrides(()),
        Revision("HEAD", "c" * 40),
        [],
        Stages((), (), ("train",)),
        None,
        "no DVC remote",
        against,
        "" if against else "git knows no revision main here",
        values or NOW,
        {"accuracy": 0.75, "n": 1200, "loss": 0.25, "ece": None},
        None,
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def page(against: Revision | None, values: dict[str, object] | None = None) -> list[str]:
    return summary.page(facts(against, values), Verdict("Not compared.", None), SAID).splitlines()


def test_figures_stand_beside_each_other_with_their_interval_and_difference() -> None:
    lines = page(Before("main", "a" * 40))
    assert "|  | main (aaaaaaa) | this run | difference |" in lines
    assert "| accuracy | 0.5000 (0.4000 to 0.6000) | 0.7500 | +0.2500 |" in lines
    assert "| log loss | - | 0.2500 | - |" in lines
    assert "| calibration error (ECE) | - | - | - |" in lines
    assert "| test images | 40 | 1,200 | +1,160 |" in lines
    assert any(line.startswith("Not of the same test images") for line in lines)


def test_without_a_past_the_present_is_told_alone() -> None:
    for against in (None, Bare("main", "a" * 40)):
        lines = page(against)
        assert "| accuracy | - | 0.7500 | - |" in lines
        assert any(line.startswith("Nothing to compare with: ") for line in lines)


def test_params_that_differ_are_listed_and_many_are_counted() -> None:
    lines = page(Before("main", "a" * 40), {**NOW, "train.lr": 1.0, "dataset.name": "a|<b>"})
    assert "| train.lr | 0.001 | 1.0 |" in lines
    assert "| dataset.name | sample | a&#124;&#60;b&#62; |" in lines
    others: dict[str, object] = {key: f"{value}!" for key, value in NOW.items()}
    lines = page(Before("main", "a" * 40), others)
    assert f"and {len(NOW) - summary.MAX_PARAMS} more" in lines


def test_names_of_classes_are_escaped() -> None:
    assert "| &#60;b&#62; | **0** | 1 |" in page(None)


def test_the_figures_are_printed_where_nothing_else_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "")
    assert summary.write("# told", None) == ""
    summary.show(facts(Before("main", "a" * 40)))
    said = capsys.readouterr().out
    assert re.search(r"^accuracy +0\.5000 \(0\.4000 to 0\.6000\) +0\.7500 +\+0\.2500$", said, re.M)
    assert "&#" not in said
    assert summary.write("# told", Path("a/summary.md")) == "a/summary.md"
    assert Path("a/summary.md").read_text() == "# told"
