"""`pipeline runs` and `pipeline sync`, in process; tests/system runs them on real results."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.params import Params
from tests.builders.repositories import CommitResult, commit_all, log_run


def run(*words: str) -> list[str]:
    result = CliRunner().invoke(app, words, catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0
    return result.stdout.splitlines()  # stderr may have a line of progress


@pytest.fixture(autouse=True)
def _params_yaml(world: Path, params: Params) -> None:
    (world / "params.yaml").write_text(json.dumps(params.model_dump()))


def test_before_the_first_result_runs_says_how_to_make_one(commit: CommitResult) -> None:
    commit_all("without a result")
    assert run("runs") == ["there are no results yet: `dvc repro` makes one"]
    assert run("sync") == ["sync: nothing to do"]


def test_a_result_without_a_run_is_listed_with_advice(commit: CommitResult) -> None:
    commit("one")
    lines = run("runs", "--missing")
    assert any(line.split()[:1] == ["main"] for line in lines)
    assert lines[-1].startswith("run: MLflow has no run of it: `pipeline sync` creates one")


def test_if_every_result_has_its_run_nothing_is_missing(
    commit: CommitResult, params: Params
) -> None:
    commit("one")
    log_run(params, "one")
    assert run("runs", "--missing") == ["nothing is missing"]
    assert "MLflow has no run" not in "\n".join(run("runs"))


def test_sync_lists_a_result_whose_files_dvc_lacks(commit: CommitResult) -> None:
    commit("one")
    *lines, summary = run("sync")
    assert lines
    assert lines[0].startswith("main: left as it is, ")
    assert summary == "sync: 0 runs created or completed, 1 unchanged"
