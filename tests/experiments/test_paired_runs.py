"""Results in DVC are paired with runs in a real MLflow store."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.core.errors import PipelineError
from pipeline.experiments import paired_runs
from pipeline.params import Params
from pipeline.tracking import provenance, store
from tests.builders.params import override
from tests.builders.repositories import CommitResult, add_experiment, git, log_run


def missing_by_name() -> dict[str, str]:
    return {pair.name: pair.missing for pair in paired_runs.paired_runs()}


def test_any_run_of_the_result_is_the_run_of_a_commit(commit: CommitResult, params: Params) -> None:
    commit("one")
    assert missing_by_name() == {"main": "run"}
    run = log_run(params, "one", "an-experiment")
    (pair,) = paired_runs.paired_runs()
    assert pair.missing == ""
    assert pair.is_complete
    assert pair.run is not None
    assert pair.run.info.run_id == run
    assert pair.row({})[:4] == ["main", git("rev-parse", "HEAD")[:7], run[:8], "finished"]


def test_the_run_of_an_experiment_has_its_name_and_commit(
    commit: CommitResult, params: Params
) -> None:
    base = commit("one")
    add_experiment("bold-aunt", base, commit("two"))
    git("reset", "-q", "--hard", base)
    log_run(params, "one")
    log_run(params, "two", "somebody-else")
    log_run(params, "two", "bold-aunt")  # on another commit
    assert missing_by_name()["bold-aunt"] == "run"
    log_run(params, "two", "bold-aunt", git__commit=base)
    assert missing_by_name()["bold-aunt"] == ""


def test_a_row_has_the_params_that_differ_from_params_yaml(
    commit: CommitResult, params: Params, world: Path
) -> None:
    current = override(params, train__patience=3)
    other = override(params, train__lr=0.5)  # without patience
    base = commit("one", params=other)
    (world / "pipeline").mkdir()
    (world / "pipeline/train.py").touch()
    add_experiment("changed", base, commit("one", 0.4, params=other))
    git("reset", "-q", "--hard", base)
    lost = log_run(override(current, train__lr=0.25), "two", git__changed="yes")
    MlflowClient().update_run(lost, name="lost")
    rows = {pair.name: pair.row(current.flat()) for pair in paired_runs.paired_runs()}
    assert rows["lost"][1::6] == ["c0ffee-dirty", "train.lr=0.25"]
    assert rows["main"][1::6] == [base[:7], "train.lr=0.5 train.patience=null"]
    assert rows["changed"][1] == f"{base[:7]}-dirty"  # known from the experiment's commit


def test_a_run_with_params_of_another_version_is_paired(
    commit: CommitResult, params: Params, world: Path
) -> None:
    """Runs have 1.0 where that version's lock has 1, as it was typed."""
    commit("one")
    lock = json.loads((world / "dvc.lock").read_text())
    sections = lock["stages"]["train"]["params"]["params.yaml"]
    sections["train"] |= {"lr": 1, "of_old": True, "patience": None}
    lock["stages"]["evaluate"]["params"]["params.yaml"] = sections
    (world / "dvc.lock").write_text(json.dumps(lock))
    (world / "params.yaml").write_text(json.dumps(sections))
    git("commit", "-q", "-a", "-m", "old")
    run = log_run(override(params, train__lr=1.0), "one")
    MlflowClient().log_param(run, "train.of_old", True)
    (pair,) = paired_runs.paired_runs()
    assert pair.run is not None
    assert pair.missing == ""
    assert pair.other_params(override(params, train__lr=1.0).flat()) == ["train.of_old=True"]


def test_an_impossible_time_is_a_question_mark(commit: CommitResult, params: Params) -> None:
    commit("one")
    experiment_id = store.experiment_id(params.dataset.name)
    MlflowClient().create_run(experiment_id, 10**17, {provenance.FINGERPRINT: "f"})
    assert "?" in [pair.row({})[4] for pair in paired_runs.paired_runs()]


def test_a_row_counts_the_params_beyond_four(commit: CommitResult, params: Params) -> None:
    commit("one")
    (pair,) = paired_runs.paired_runs()
    assert pair.row({})[-1].endswith(f" and {len(params.flat()) - 4} more")


def test_other_params_are_another_result(commit: CommitResult, params: Params) -> None:
    commit("one")
    log_run(override(params, evaluate__samples=3), "one")
    assert missing_by_name()["main"] == "run"


def test_a_run_without_an_evaluation_is_incomplete(commit: CommitResult, params: Params) -> None:
    commit("one")
    log_run(params, "one", result__test="")
    assert missing_by_name() == {"main": "part of run"}


@pytest.mark.parametrize(
    ("status", "tags", "expected"),
    [
        ("FINISHED", {}, "commit"),
        ("KILLED", {"result__models": ""}, "model"),
        ("RUNNING", {"result__models": ""}, ""),
    ],
)
def test_a_run_without_a_result_in_dvc(
    commit: CommitResult, params: Params, status: str, tags: dict[str, str], expected: str
) -> None:
    commit("one")
    log_run(params, "one")
    run = log_run(params, "lost", "gone", status, **tags)
    pairs = paired_runs.paired_runs()
    missing = {pair.run.info.run_id: pair.missing for pair in pairs if pair.run}
    assert missing[run] == expected


def test_nothing_is_missing_if_the_commit_is_in_the_history(
    commit: CommitResult, params: Params
) -> None:
    commit("a" * 32)
    commit("b" * 32)
    log_run(params, "a" * 32)
    log_run(params, "b" * 32)
    assert set(missing_by_name().values()) == {""}


def test_before_the_first_training_there_are_no_runs(commit: CommitResult, world: Path) -> None:
    commit("one")
    (world / "mlflow.db").unlink()
    assert missing_by_name() == {"main": "run"}
    assert not (world / "mlflow.db").exists()


def test_an_unreachable_store_is_reported(
    commit: CommitResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit("one")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(PipelineError, match=r"MLflow at http://127.0.0.1:9 fails \("):
        paired_runs.paired_runs()
