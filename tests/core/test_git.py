import re
from pathlib import Path

import pytest

from pipeline.core import git
from pipeline.core.errors import PipelineError
from tests.builders.repositories import commit_all


def test_a_failing_command_is_an_error_with_its_folder_and_the_message_of_git(
    world: Path,
) -> None:
    expected = rf"^git log in {re.escape(str(world))} fails: fatal: not a git repository"
    with pytest.raises(PipelineError, match=expected):
        git.git("log")


def test_without_git_a_needed_command_is_an_error_and_others_return_nothing(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(world))
    with pytest.raises(PipelineError, match=r"^git is not installed"):
        git.git("log")
    assert git.try_git("log") is None
    assert git.commit_of("main") is None


def test_a_commit_has_a_hash_and_the_text_of_its_files(world: Path) -> None:
    (world / "notes.txt").write_text("first")
    commit_all("first", world)
    commit = git.commit_of("main")
    assert commit is not None
    assert len(commit) == 40
    assert git.text_at(commit, "notes.txt") == "first"
    assert git.text_at(commit, "other.txt") is None
    assert git.commit_of("--all") is None
