"""Results and runs, paired; the runs are real ones."""

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


def gaps() -> dict[str, str]:
    return {pair.name: pair.missing for pair in paired_runs.paired_runs()}


def test_a_commit_needs_a_run_and_any_run_of_its_result_will_do(
    commit: CommitResult, params: Params
) -> None:
    commit("one")
    assert gaps() == {"main": "run"}
    run = log_run(params, "one", "an-experiment")
    (pair,) = paired_runs.paired_runs()
    assert pair.missing == ""
    assert pair.whole
    assert pair.run is not None
    assert pair.run.info.run_id == run
    assert pair.row({})[:4] == ["main", git("rev-parse", "HEAD")[:7], run[:8], "finished"]


def test_an_experiment_needs_a_run_of_its_name(commit: CommitResult, params: Params) -> None:
    base = commit("one")
    add_experiment("bold-aunt", base, commit("two"))
    git("reset", "-q", "--hard", base)
    log_run(params, "one")
    log_run(params, "two", "somebody-else")
    log_run(params, "two", "bold-aunt")  # on another commit
    assert gaps()["bold-aunt"] == "run"
    log_run(params, "two", "bold-aunt", git__commit=base)
    assert gaps()["bold-aunt"] == ""


def test_a_row_tells_what_is_not_as_in_params_yaml(
    commit: CommitResult, params: Params, world: Path
) -> None:
    here = override(params, train__patience=3)
    other = override(params, train__lr=0.5)  # without patience
    base = commit("one", params=other)
    (world / "pipeline").mkdir()
    (world / "pipeline/train.py").touch()
    add_experiment("changed", base, commit("one", 0.4, params=other))
    git("reset", "-q", "--hard", base)
    lost = log_run(override(here, train__lr=0.25), "two", git__changed="yes")
    MlflowClient().update_run(lost, name="lost")
    rows = {pair.name: pair.row(here.flat()) for pair in paired_runs.paired_runs()}
    assert rows["lost"][1::6] == ["c0ffee-dirty", "train.lr=0.25"]
    assert rows["main"][1::6] == [base[:7], "train.lr=0.5 train.patience=null"]
    assert rows["changed"][1] == f"{base[:7]}-dirty"  # which DVC has kept, though no run says so


def test_the_run_of_another_versions_params_is_known_again(
    commit: CommitResult, params: Params, world: Path
) -> None:
    """That version knew 1 for a number that runs write as 1.0, and a lock has as it was typed."""
    commit("one")
    lock = json.loads((world / "dvc.lock").read_text())
    own = lock["stages"]["train"]["params"]["params.yaml"]
    own["train"] |= {"lr": 1, "of_old": True, "patience": None}
    lock["stages"]["evaluate"]["params"]["params.yaml"] = own
    (world / "dvc.lock").write_text(json.dumps(lock))
    git("commit", "-q", "-a", "-m", "old")
    run = log_run(override(params, train__lr=1.0), "one")
    MlflowClient().log_param(run, "train.of_old", True)
    (pair,) = paired_runs.paired_runs()
    assert pair.run is not None
    assert pair.missing == ""
    assert pair.others(override(params, train__lr=1.0).flat()) == ["train.of_old=True"]


def test_a_time_that_is_none_is_no_failure(commit: CommitResult, params: Params) -> None:
    commit("one")
    place = store.experiment_id(params.dataset.name)
    MlflowClient().create_run(place, 10**17, {provenance.FINGERPRINT: "f"})
    assert "?" in [pair.row({})[4] for pair in paired_runs.paired_runs()]


def test_of_many_values_the_rest_is_counted(commit: CommitResult, params: Params) -> None:
    commit("one")
    (pair,) = paired_runs.paired_runs()
    assert pair.row({})[-1].endswith(f" and {len(params.flat()) - 4} more")


def test_other_params_are_another_result(commit: CommitResult, params: Params) -> None:
    commit("one")
    log_run(override(params, evaluate__samples=3), "one")
    assert gaps()["main"] == "run"


def test_a_run_without_its_evaluation_is_not_whole(commit: CommitResult, params: Params) -> None:
    commit("one")
    log_run(params, "one", result__test="")
    assert gaps() == {"main": "part of run"}


@pytest.mark.parametrize(
    ("status", "tags", "gap"),
    [
        ("FINISHED", {}, "commit"),
        ("KILLED", {"result__models": ""}, "model"),
        ("RUNNING", {"result__models": ""}, ""),
    ],
)
def test_what_mlflow_alone_has(
    commit: CommitResult, params: Params, status: str, tags: dict[str, str], gap: str
) -> None:
    commit("one")
    log_run(params, "one")
    run = log_run(params, "lost", "gone", status, **tags)
    found = {pair.run.info.run_id: pair.missing for pair in paired_runs.paired_runs() if pair.run}
    assert found[run] == gap


def test_a_run_whose_commit_is_in_the_history_lacks_nothing(
    commit: CommitResult, params: Params
) -> None:
    commit("a" * 32)
    commit("b" * 32)
    log_run(params, "a" * 32)
    log_run(params, "b" * 32)
    assert set(gaps().values()) == {""}


def test_before_the_first_training_there_are_no_runs(commit: CommitResult, world: Path) -> None:
    commit("one")
    (world / "mlflow.db").unlink()
    assert gaps() == {"main": "run"}
    assert not (world / "mlflow.db").exists()


def test_a_store_that_does_not_answer_is_told(
    commit: CommitResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit("one")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(PipelineError, match=r"MLflow at http://127.0.0.1:9 fails \("):
        paired_runs.paired_runs()
