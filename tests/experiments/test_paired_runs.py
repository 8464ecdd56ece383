"""Results in DVC are paired with runs in a real MLflow store."""

import json
import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus

from pipeline.core.errors import PipelineError
from pipeline.experiments import dvc_results, paired_runs, sync
from pipeline.experiments.paired_runs import PairedRun
from pipeline.params import Params
from pipeline.tracking import provenance, store
from pipeline.tracking.process_lock import PROCESS, ProcessLock
from tests.builders.locks import STAGES, LockedRuns, write_project
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
        ("KILLED", {"result__models": "", "result__test": ""}, "model"),
        ("KILLED", {"result__test": ""}, "test result"),
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


def test_an_experiment_that_trained_nothing_has_no_result(
    commit: CommitResult, params: Params
) -> None:
    """`dvc exp run acquire`: the other entries of its dvc.lock are of the commit below it."""
    write_project(params, 0.9)
    locked = LockedRuns()
    locked.run(*STAGES)
    git("add", "-A")
    git("commit", "-q", "-m", "run")
    base = git("rev-parse", "HEAD")
    changed = override(params, acquire__workers=3)
    write_project(changed, 0.9)
    locked.run("acquire", version="2")
    git("commit", "-q", "-a", "-m", "experiment")
    add_experiment("trained-nothing", base, git("rev-parse", "HEAD"))
    git("reset", "-q", "--hard", base)
    pairs = {pair.name: pair for pair in paired_runs.paired_runs()}
    assert (pairs["main"].missing, pairs["main"].accuracy) == ("run", 0.9)
    row = pairs["trained-nothing"].row({})
    assert row[1:4] == [base[:7], "", ""]
    assert row[5:7] == ["", "stages behind: filter, split, features, train, evaluate"]
    assert pairs["trained-nothing"].missing in paired_runs.ADVICE
    assert [result.label for result, _ in sync._read_gaps(False, False)] == ["main"]
    assert dvc_results.stale_stages_at("trained-nothing")[0] == "filter"
    assert dvc_results.stale_stages_at("main") == []


def test_a_branch_with_newer_code_than_its_result_is_not_in_its_history(
    commit: CommitResult, params: Params
) -> None:
    write_project(params, 0.9)
    locked = LockedRuns()
    locked.run(*STAGES)
    git("add", "-A")
    git("commit", "-q", "-m", "run")
    models = dvc_results.dvc_results()[0].models_md5
    git("tag", "v1")
    Path("pipeline/train/code.py").write_text("faster")
    git("commit", "-q", "-a", "-m", "faster")
    assert missing_by_name() == {"v1": "run", "main": "stages behind"}
    log_run(params, models, result__test=dvc_results.dvc_results()[0].test_md5)
    assert missing_by_name() == {"v1": "", "main": "stages behind"}


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        ("model pending", "model"),
        ("model deleted", "model"),
        ("report deleted", "report.html"),
        ("folder deleted", "origin"),
        ("killed", "end"),
    ],
)
def test_a_run_that_lacks_a_part_says_which(
    commit: CommitResult, params: Params, world: Path, damage: str, part: str
) -> None:
    commit("one")
    run_id = log_run(params, "one")
    run = MlflowClient().get_run(run_id)
    (model,) = MlflowClient().search_logged_models([run.info.experiment_id])
    files = Path(run.info.artifact_uri.removeprefix("file://"))
    if damage == "model pending":
        MlflowClient().finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
    elif damage == "model deleted":
        MlflowClient().delete_logged_model(model.model_id)
    elif damage == "report deleted":
        (files / "report.html").unlink()
    elif damage == "folder deleted":
        shutil.rmtree(files / "origin")
    else:
        MlflowClient().set_terminated(run.info.run_id, "KILLED")
    (pair,) = paired_runs.paired_runs()
    assert (pair.missing, pair.is_complete) == ("part of run", False)
    assert pair.row({})[6] == f"part of run: {part}"


def test_a_run_without_the_metrics_of_its_test_says_so(
    commit: CommitResult, params: Params
) -> None:
    """As older versions left it after a full disk."""
    commit("one")
    run = log_run(params, "one")
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("DELETE FROM latest_metrics WHERE key LIKE 'test/%'")
    (pair,) = paired_runs.paired_runs()
    assert pair.run is not None
    assert pair.run.info.run_id == run
    assert pair.row({})[6] == "part of run: metrics of the test result"


def test_artifacts_that_cannot_be_listed_are_not_missing(
    commit: CommitResult,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The store of the artifacts may need a package or a password that is not here."""

    def refuse(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'boto3'")

    commit("one")
    log_run(params, "one")
    monkeypatch.setattr(MlflowClient, "list_artifacts", refuse)
    assert missing_by_name() == {"main": ""}
    assert "are not checked (No module named 'boto3')" in capsys.readouterr().err


def test_a_run_without_a_process_is_reported(commit: CommitResult, params: Params) -> None:
    """On a server that clones share: another clone may have the process."""
    commit("one")
    host = socket.gethostname()
    run = log_run(params, "lost", "gone", result__models="", env__host=host)
    MlflowClient().update_run(run, "RUNNING")
    (pair,) = [PairedRun(None, MlflowClient().get_run(run))]
    assert pair.missing == "end"
    lock = ProcessLock("sqlite:///mlflow.db")
    MlflowClient().set_tag(run, PROCESS, lock.name)
    assert PairedRun(None, MlflowClient().get_run(run)).missing == ""
    lock.remove()
