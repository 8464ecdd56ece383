"""All steps with real DVC and git, on a pipeline that computes nothing."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.commands.ci import dvc_steps
from pipeline.commands.ci.overrides import Overrides
from pipeline.commands.ci.steps import SummaryOptions, run
from pipeline.core.errors import PipelineError
from tests import ROOT
from tests.builders.forks import dvc_in_fork, run_dvc
from tests.builders.repositories import git

STAGES = """
stages:
  train:
    cmd: python train.py
    deps: [train.py]
    params: [train]
    outs: [reports/history.csv]
  evaluate:
    cmd: python evaluate.py
    deps: [evaluate.py, reports/history.csv]
    params: [train]
    metrics:
      - reports/metrics.json:
          cache: false
    outs: [reports/test]
"""
TRAIN = """
from pathlib import Path
Path("reports").mkdir(exist_ok=True)
Path("reports/history.csv").write_text(
    "step,epoch,lr,train_loss,train_accuracy,val_loss,val_accuracy\\n"
    "1,1,0.1,1,0.5,1,0.5\\n2,2,0.1,0.5,0.7,0.6,0.6\\n")
"""
EVALUATE = """
import json
from pathlib import Path
right = 20 if "lr: 0.5" in Path("params.yaml").read_text() else 90
predicted = ["bee"] * right + ["ant"] * (100 - right)
rows = [f"{number:064x},bee,{label},,0.5,0.5" for number, label in enumerate(predicted)]
Path("reports/test").mkdir(exist_ok=True)
lines = ["id,label,predicted,group,p.bee,p.ant", *rows]
Path("reports/test/predictions.csv").write_text("\\n".join(lines))
figures = {"accuracy": right / 100, "n": 100, "ece": None}
Path("reports/metrics.json").write_text(json.dumps(figures))
"""
NOTHING = "ci: nothing to do: every stage is up to date"


def dvc(folder: Path, *words: str) -> None:
    result = run_dvc(*words, folder=folder)
    assert result.returncode == 0, result.stdout


@pytest.fixture(autouse=True)
def _forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run DVC in forks; tests/system has it as processes."""

    def run(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        result = run_dvc(*command[3:])
        result.stderr = result.stdout
        return result

    monkeypatch.setattr("pipeline.experiments.dvc.run", dvc_in_fork)
    monkeypatch.setattr(dvc_steps, "subprocess", SimpleNamespace(run=run))


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a remote, whose first run is committed and pushed."""
    folder = tmp_path_factory.mktemp("upstream")
    (folder / "dvc.yaml").write_text(STAGES)
    (folder / "train.py").write_text(TRAIN)
    (folder / "evaluate.py").write_text(EVALUATE)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    git("init", "-q", "-b", "main", folder=folder)
    dvc(folder, "init", "-q")
    dvc(folder, "config", "core.analytics", "false")
    dvc(folder, "remote", "add", "-d", "store", str(tmp_path_factory.mktemp("store")))
    dvc(folder, "repro")
    git("add", "-A", folder=folder)
    git("commit", "-q", "-m", "first", folder=folder)
    dvc(folder, "push", "--run-cache")
    return folder


@pytest.fixture
def clone(upstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone on another machine: files in git, and the address of the remote."""
    git("clone", "-q", str(upstream), "clone", folder=tmp_path)
    for name in ("GITHUB_STEP_SUMMARY", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path / "clone")
    return tmp_path / "clone"


def ci(*values: str, against: str = "main", fail: bool = False) -> str:
    """Run it; return the summary."""
    run(Overrides(values), SummaryOptions(against, Path("summary.md"), None, fail))
    return Path("summary.md").read_text()


def test_a_fresh_clone_pulls_and_runs_nothing(
    clone: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    summary = ci()
    output = capfd.readouterr().out
    assert NOTHING in output
    assert "ci: pulled from store, pushed to it" in output
    assert "No significant difference between main and this run" in summary
    assert "| accuracy | 0.9000 | 0.9000 | +0.0000 |" in summary
    assert "| calibration error (ECE) | - | - | - |" in summary
    assert "The same as main (" in summary


def test_a_lock_that_is_cut_off_is_put_back(clone: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lock = Path("dvc.lock")
    whole = lock.read_bytes()
    lock.write_bytes(whole[: whole.index(b"  evaluate:")])  # still YAML
    ci()
    output = capfd.readouterr().out
    assert "ci: dvc.lock ends after " in output
    assert NOTHING in output
    assert lock.read_bytes() == whole


def test_requested_values_run_once_and_are_restored_on_another_clone(
    clone: Path, upstream: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    summary = ci("train.lr=0.5")
    assert "ci: ran train, evaluate\n" in capfd.readouterr().out
    assert "| train.lr | 0.001 | 0.5 |" in summary
    assert "main is better than this run: this run has -70.0 points" in summary
    assert "$ dvc pull --run-cache --allow-missing && dvc exp run --pull -S train.lr=0.5" in summary

    assert ci("train.lr=0.5") == summary.replace(
        "stages: ran train, evaluate", "stages: nothing to do: every stage is up to date"
    )
    assert NOTHING in capfd.readouterr().out

    git("clone", "-q", str(upstream), "other", folder=clone.parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone.parent / "other")
        ci("train.lr=0.5")
        assert "ci: ran nothing; restored train, evaluate\n" in capfd.readouterr().out

    with pytest.raises(PipelineError, match=r"params.yaml is not the commit's \(train.lr=0.5\)"):
        ci()
    with pytest.raises(PipelineError, match="main is better than this run"):
        ci("train.lr=0.5", fail=True)


def test_without_a_remote_nothing_is_pulled_or_pushed(
    clone: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dvc(clone, "remote", "remove", "store")
    summary = ci()
    output = capfd.readouterr().out
    assert "no DVC remote: nothing is pulled or pushed" in output
    assert "$ dvc push" not in output
    assert "$ dvc pull" not in output
    assert "ci: ran train, evaluate\n" in output
    assert "| accuracy | 0.9000 | 0.9000 | +0.0000 |" in summary
    ci()
    assert NOTHING in capfd.readouterr().out


def test_with_a_failing_remote_the_result_is_computed_but_not_shared(
    clone: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("full").touch()
    dvc(clone, "remote", "modify", "--local", "store", "url", str(clone / "full/store"))
    with pytest.raises(PipelineError, match="the result is here, but could not be pushed to store"):
        ci()
    output = capfd.readouterr()
    assert "warning: cannot pull from store" in output.err
    assert "ci: ran train, evaluate\n" in output.out
    summary = Path("summary.md").read_text()
    assert "- remote: nothing pulled from store, nothing pushed to it" in summary
    assert "| accuracy | 0.9000 | 0.9000 | +0.0000 |" in summary


def test_an_empty_remote_is_filled(
    clone: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dvc(clone, "remote", "modify", "--local", "store", "url", str(tmp_path / "empty"))
    ci()
    output = capfd.readouterr().out
    assert "ci: ran train, evaluate\n" in output
    assert "ci: pulled from store, pushed to it" in output
    assert list((tmp_path / "empty").rglob("runs/*/*/*"))


def test_the_summary_is_appended_to_the_job_summary_on_github(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("checkout", "-q", "-b", "topic", folder=clone)
    git("branch", "-D", "main", folder=clone)
    Path("train.py").write_text(TRAIN + "# another\n")
    (tmp_path / "job.md").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "job.md"))
    run(Overrides(()), SummaryOptions("main", None, "reports", False))
    summary = (tmp_path / "job.md").read_text()
    assert summary.startswith("before\n## Pipeline: sample, ")
    assert re.search(r"\| main \([0-9a-f]{7}\) \| this run \|", summary)
    assert "- not as in the commit: train.py" in summary
    assert "are in the artifact `reports`" in summary
    assert "`dvc.lock` is not the commit's" in summary


def test_a_missing_revision_is_reported_before_anything_runs(
    clone: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PipelineError, match="there is no git revision --output=x here"):
        ci(against="--output=x", fail=True)
    assert not (clone / "reports/test").exists()
    summary = ci(against="--output=x")
    warning = "warning: the result will not be compared: there is no git revision --output=x here"
    assert capfd.readouterr().err.startswith(warning)
    assert "Not compared: there is no git revision --output=x here" in summary
    assert "| accuracy | - | 0.9000 | - |" in summary


def test_the_summary_says_what_became_of_the_model(
    clone: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    issues = iter(["# a question\n", ""])

    def promote_workspace() -> SimpleNamespace:
        return SimpleNamespace(sentence="not promoted: <why>", issue=lambda: next(issues))

    module = SimpleNamespace(promote_workspace=promote_workspace)
    monkeypatch.setitem(sys.modules, "pipeline.commands.ci.champion", module)
    options = SummaryOptions(
        "main", Path("summary.md"), None, False, promote=True, issue=Path("issue.md")
    )
    run(Overrides(()), options)
    assert "### Champion\n\nnot promoted: &#60;why&#62;\n" in Path("summary.md").read_text()
    assert Path("issue.md").read_text() == "# a question\n"
    assert "ci: a person should decide: issue.md\n" in capfd.readouterr().out
    run(Overrides(()), options)
    assert not Path("issue.md").exists()


def test_a_failing_stage_is_reported_in_one_sentence(clone: Path) -> None:
    Path("evaluate.py").write_text("raise SystemExit('no')\n")
    with pytest.raises(PipelineError, match="`dvc repro` failed: see its output above"):
        ci()


def test_a_failure_restores_params_and_the_earlier_experiment(clone: Path) -> None:
    ci("train.lr=0.5")
    former, params = experiments(clone), (clone / "params.yaml").read_text()
    Path("evaluate.py").write_text("raise SystemExit('no')\n")
    with pytest.raises(PipelineError, match="`dvc exp run` failed"):
        ci("train.lr=0.5")
    assert experiments(clone) == former
    assert (clone / "params.yaml").read_text() == params
    with pytest.raises(PipelineError, match="`dvc exp run` failed"):
        ci("train.lr=0.5", "train.epochs=3")
    assert experiments(clone) == former
    assert (clone / "params.yaml").read_text() == params


def experiments(folder: Path) -> str:
    command = ["git", "for-each-ref", "refs/exps/??/"]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_outside_a_clone_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match="there is no git commit here"):
        ci()
