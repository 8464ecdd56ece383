import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.ci import summary
from pipeline.commands.ci.ci_run import CiRun, Reference, Sharing
from pipeline.commands.ci.dvc_steps import StageOutcomes
from pipeline.commands.ci.overrides import Overrides
from pipeline.commands.ci.revisions import Revision
from pipeline.commands.ci.summary import ReferenceVerdict
from pipeline.core.errors import PipelineError
from pipeline.experiments.predictions import Prediction
from pipeline.params import load_params
from tests import ROOT

PARAMS = load_params(ROOT / "params.yaml").flat()
PREDICTIONS = {"1": Prediction("<b>", "a|b", 0.5, {"<b>": 0.5, "a|b": 0.5}, "")}


class FakeRevision(Revision):
    """A revision that need not exist."""

    def metrics(self) -> dict[str, Any]:
        return {"accuracy": 0.5, "accuracy.wilson_low": 0.4, "accuracy.wilson_high": 0.6, "n": 40}

    def params(self) -> dict[str, object]:
        return PARAMS


class RevisionWithoutMetrics(FakeRevision):
    def metrics(self) -> dict[str, Any]:
        raise PipelineError("it has none")


MAIN = Reference(FakeRevision("main", "a" * 40))
NO_REVISION = Reference(None, "there is no git revision main here")


def make_run(reference: Reference, params: dict[str, object] = PARAMS) -> CiRun:
    return CiRun(
        Overrides(()),
        Revision("HEAD", "c" * 40),
        [],
        StageOutcomes((), (), ("train",)),
        Sharing(None, is_pulled=False, is_pushed=False),
        reference,
        params,
        {"accuracy": 0.75, "n": 1200, "loss": 0.25, "ece": None},
        None,
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def render(reference: Reference, params: dict[str, object] = PARAMS) -> list[str]:
    ci_run = make_run(reference, params)
    return summary.render(ci_run, ReferenceVerdict("Not compared.", None), PREDICTIONS).splitlines()


def test_metrics_are_compared_with_interval_and_difference() -> None:
    lines = render(MAIN)
    assert "|  | main (aaaaaaa) | this run | difference |" in lines
    assert "| accuracy | 0.5000 (0.4000 to 0.6000) | 0.7500 | +0.2500 |" in lines
    assert "| log loss | - | 0.2500 | - |" in lines
    assert "| calibration error (ECE) | - | - | - |" in lines
    assert "| test images | 40 | 1,200 | +1,160 |" in lines
    assert any(line.startswith("The test images differ, or may differ") for line in lines)


def test_without_reference_metrics_only_the_new_ones_are_listed() -> None:
    for reference in (NO_REVISION, Reference(RevisionWithoutMetrics("main", "a" * 40))):
        lines = render(reference)
        assert "| accuracy | - | 0.7500 | - |" in lines
        assert any(line.startswith("Nothing to compare with: ") for line in lines)


def test_params_that_differ_are_listed_up_to_a_maximum() -> None:
    lines = render(MAIN, {**PARAMS, "train.lr": 1.0, "dataset.name": "a|<b>"})
    assert "| train.lr | 0.001 | 1.0 |" in lines
    assert "| dataset.name | sample | a&#124;&#60;b&#62; |" in lines
    others: dict[str, object] = {key: f"{value}!" for key, value in PARAMS.items()}
    lines = render(MAIN, others)
    assert f"and {len(PARAMS) - summary.MAX_PARAMS} more" in lines


def test_images_that_are_not_those_of_the_data_set_are_named(world: Path) -> None:
    title = "not the images that the data set describes"
    assert not any(title in line for line in render(NO_REVISION))
    (world / "models").mkdir()
    (world / "models/model.json").write_text('{"deviation": "x.zip has 5 bytes"}')
    assert any(title in line and "x.zip has 5 bytes" in line for line in render(NO_REVISION))


def test_names_of_classes_are_escaped() -> None:
    assert "| &#60;b&#62; | **0** | 1 |" in render(NO_REVISION)


def test_metrics_are_printed_if_there_is_no_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "")
    assert summary.write("# page", None) == ""
    summary.print_metrics(make_run(MAIN))
    output = capsys.readouterr().out
    assert re.search(
        r"^accuracy +0\.5000 \(0\.4000 to 0\.6000\) +0\.7500 +\+0\.2500$", output, re.M
    )
    assert "&#" not in output
    assert summary.write("# page", Path("a/summary.md")) == "a/summary.md"
    assert Path("a/summary.md").read_text() == "# page"
