from pathlib import Path

import pytest

from pipeline.commands.ci import revisions
from pipeline.core.errors import PipelineError
from tests.builders.repositories import git


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("reports").mkdir()
    Path("reports/metrics.json").write_text('{"accuracy": 0.5}')
    Path("params.yaml").write_text("train:\n  lr: 1e-3\n  on: no\nflat: 1\n")
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    return tmp_path


@pytest.mark.usefixtures("clone")
def test_files_are_read_from_the_commit() -> None:
    Path("params.yaml").write_text("train: {lr: 2}\n")
    main = revisions.find_revision("main")
    assert main == revisions.Revision("main", revisions.read_head().commit)
    assert main.metrics() == {"accuracy": 0.5}
    assert main.params() == {"train.lr": 0.001, "train.on": "no"}  # YAML 1.2, as DVC reads it


@pytest.mark.usefixtures("clone")
def test_outputs_of_a_run_are_not_changed_files() -> None:
    Path("params.yaml").write_text("train: {lr: 2}\n")
    assert revisions.changed_files() == []
    Path("a b.py").touch()
    git("add", "a b.py")
    assert revisions.changed_files() == ["a b.py"]


@pytest.mark.usefixtures("clone")
def test_missing_and_damaged_files_are_reported() -> None:
    with pytest.raises(PipelineError, match="there is no git revision nobody here"):
        revisions.find_revision("nobody")
    Path("reports/metrics.json").write_text("{")
    Path("params.yaml").write_text("train: [")
    git("commit", "-q", "-a", "-m", "two")
    with pytest.raises(PipelineError, match=r"reports/metrics.json of HEAD \(.{7}\) is not JSON"):
        revisions.read_head().metrics()
    with pytest.raises(PipelineError, match=r"params.yaml of HEAD \(.{7}\) is not YAML"):
        revisions.read_head().params()
    git("rm", "-q", "reports/metrics.json", "params.yaml")
    git("commit", "-q", "-m", "three")
    with pytest.raises(PipelineError, match=r"has no reports/metrics.json: commit it"):
        revisions.read_head().metrics()
    with pytest.raises(PipelineError, match=r"has no params.yaml"):
        revisions.read_head().params()


def test_an_experiment_is_restored_from_its_backup(clone: Path) -> None:
    commit = revisions.read_head().commit
    assert revisions.find_experiment("ci-x") is None
    git("update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/ci-x", commit)
    assert revisions.find_experiment("ci-x") == commit
    assert revisions.backup_experiment("ci-x")
    git("update-ref", "-d", f"refs/exps/{commit[:2]}/{commit[2:]}/ci-x")
    assert not revisions.backup_experiment("ci-x")
    revisions.restore_experiment("ci-x")  # as after a kill
    assert revisions.find_experiment("ci-x") == commit
    revisions.restore_experiment("ci-y")
    assert revisions.find_experiment("ci-y") is None
