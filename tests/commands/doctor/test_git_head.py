from pathlib import Path

import pytest

from pipeline.commands.doctor.git_head import examine
from tests.builders.repositories import commit_all, git


@pytest.fixture
def detached(world: Path) -> Path:
    """A repository as a kill in `dvc exp run` leaves it."""
    (world / "a.txt").write_text("1")
    commit_all("first")
    git("checkout", "-q", git("rev-parse", "HEAD"))
    git("update-ref", "refs/exps/exec/EXEC_HEAD", "HEAD")
    return world


def remedies() -> list[str]:
    return [finding.remedy for finding in examine()]


def test_a_head_that_an_experiment_has_detached_is_reported(detached: Path) -> None:
    (remedy,) = remedies()
    assert remedy.startswith("`git switch -C main` returns to main")
    (detached / "a.txt").write_text("2")
    assert len(remedies()) == 1
    commit_all("on no branch")
    assert remedies() == [remedy]
    git("switch", "-q", "-C", "main")
    assert remedies() == []
    assert git("log", "-1", "--format=%s", "main") == "on no branch"


def test_other_detached_heads_are_as_somebody_wants_them(detached: Path) -> None:
    git("switch", "-q", "main")
    (detached / "a.txt").write_text("2")
    commit_all("second")
    git("checkout", "-q", git("rev-parse", "HEAD~1"))  # an older commit
    assert remedies() == []
    git("switch", "-q", "main")
    git("checkout", "-q", git("rev-parse", "main"))
    assert len(remedies()) == 1
    git("update-ref", "-d", "refs/exps/exec/EXEC_HEAD")  # without an experiment
    assert remedies() == []


def test_an_experiment_that_began_on_no_branch(
    detached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "bold-aunt")
    assert remedies() == []  # DVC has detached it
    (detached / "a.txt").write_text("2")
    commit_all("on no branch")
    git("checkout", "-q", "--detach", git("rev-parse", "HEAD~1"))  # as DVC does, once more
    assert remedies()[0].startswith("`git switch -C main` returns to main")


def test_a_folder_without_git_has_no_head(world: Path) -> None:
    assert remedies() == []
