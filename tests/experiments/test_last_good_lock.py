"""The last good dvc.lock is put back, and nothing is lost."""

from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.experiments import dvc
from pipeline.experiments.last_good_lock import COPIES, mend
from tests.builders.repositories import commit_all, git

LOCK = Path("dvc.lock")
YAML = "stages:\n  a: {cmd: x, outs: [one]}\n  b: {cmd: y, outs: [two]}\n"
STAGE = """\
  {name}:
    cmd: x
    outs:
    - path: {out}
      hash: md5
      md5: {digit}
      size: 12
"""


def text(digit: str, *stages: str) -> bytes:
    outs = {"a": "one", "b": "two"}
    entries = (STAGE.format(name=s, out=outs[s], digit=digit * 32) for s in stages or outs)
    return ("schema: '2.0'\nstages:\n" + "".join(entries)).encode()


OLD, NEW = text("1"), text("2")


@pytest.fixture
def project(world: Path) -> Path:
    """A committed dvc.lock of two stages."""
    (world / ".dvc").mkdir()
    (world / ".dvc/config").write_text("")
    (world / ".gitignore").write_text(".cache/\n.dvc/tmp\n")
    (world / "dvc.yaml").write_text(YAML)
    LOCK.write_bytes(OLD)
    commit_all("first")
    return world


def test_a_good_lock_is_left_alone_and_kept(project: Path) -> None:
    assert not mend()
    assert [copy.read_bytes() for copy in COPIES.iterdir()] == [OLD]
    LOCK.write_bytes(NEW)
    assert not mend()
    assert [copy.read_bytes() for copy in COPIES.iterdir()] == [NEW]
    assert LOCK.read_bytes() == NEW


@pytest.mark.parametrize("length", [0, 5, 14, 60, len(OLD) // 2, len(OLD) - 1])
def test_a_cut_lock_is_kept_beside_and_the_commits_is_put_back(project: Path, length: int) -> None:
    LOCK.write_bytes(OLD[:length])
    commit = git("rev-parse", "--short=7", "HEAD")
    assert f"it is kept as dvc.lock.broken-1, and that of commit {commit} is put back" in mend()
    assert LOCK.read_bytes() == OLD
    assert Path("dvc.lock.broken-1").read_bytes() == OLD[:length]
    assert not mend()


def test_a_newer_copy_is_preferred_to_the_commits(project: Path) -> None:
    LOCK.write_bytes(NEW)
    mend()
    LOCK.write_bytes(text("3")[:-4])
    assert "the copy of the last good one is put back" in mend()
    assert LOCK.read_bytes() == NEW


def test_a_copy_of_another_commit_is_not_put_back(project: Path) -> None:
    LOCK.write_bytes(NEW)
    mend()
    LOCK.write_bytes(text("3"))
    commit_all("second")
    LOCK.write_bytes(b"")
    assert "that of commit" in mend()
    assert LOCK.read_bytes() == text("3")


def test_files_that_were_kept_are_never_overwritten(project: Path) -> None:
    for number, content in enumerate([b"", b"schema", b"\0\0"], start=1):
        LOCK.write_bytes(content)
        assert f"dvc.lock.broken-{number}" in mend()
    assert [path.read_bytes() for path in sorted(project.glob("dvc.lock.broken-*"))] == [
        b"",
        b"schema",
        b"\0\0",
    ]


def test_a_lock_with_conflict_markers_is_only_reported(project: Path) -> None:
    conflict = b"<<<<<<< HEAD\n" + OLD + b"=======\n" + NEW + b">>>>>>> other\n"
    for content in (conflict, conflict[:-30]):
        LOCK.write_bytes(content)
        with pytest.raises(PipelineError, match=r"merge conflicts: take one side with `git"):
            mend()
        assert LOCK.read_bytes() == content
    assert not list(project.glob("dvc.lock.broken-*"))


def test_without_a_good_one_the_sentence_says_what_to_do(project: Path) -> None:
    git("rm", "-q", "--cached", "dvc.lock")
    git("commit", "-q", "-m", "without")
    LOCK.write_bytes(OLD[:36])
    with pytest.raises(PipelineError, match=r"no good one is known: move it away \(`mv dvc.lock"):
        mend()
    assert LOCK.read_bytes() == OLD[:36]


@pytest.mark.parametrize("content", [b"", b"\0" * len(NEW), NEW[:36]])
def test_a_damaged_copy_is_passed_over(project: Path, content: bytes) -> None:
    LOCK.write_bytes(NEW)
    mend()
    for copy in COPIES.iterdir():
        copy.write_bytes(content)
    LOCK.write_bytes(NEW[:70])
    assert "that of commit" in mend()
    assert LOCK.read_bytes() == OLD


def test_whoever_deletes_the_lock_starts_anew(project: Path) -> None:
    """Its first stages are no cut: the commit's lock is not what it was made from."""
    LOCK.unlink()
    assert not mend()
    LOCK.write_bytes(text("2", "a"))
    assert not mend()
    assert LOCK.read_bytes() == text("2", "a")
    LOCK.write_bytes(b"")  # but what cannot be read is put back
    assert mend()
    assert LOCK.read_bytes() == text("2", "a")


def test_a_lock_of_another_branch_with_fewer_stages_is_good(project: Path) -> None:
    """As after `git checkout other -- dvc.lock`, a merge that took theirs, or `dvc exp apply`."""
    LOCK.write_bytes(text("2", "a"))
    commit_all("other")
    LOCK.write_bytes(NEW)
    commit_all("both")
    mend()
    LOCK.write_bytes(text("2", "a"))
    assert not mend()
    assert LOCK.read_bytes() == text("2", "a")
    LOCK.write_bytes(NEW)
    mend()
    LOCK.write_bytes(text("3", "a"))  # nobody's
    assert "ends before the stage b" in mend()


def test_a_lock_that_dvc_is_writing_is_left_alone(project: Path) -> None:
    with dvc.exclusive():
        LOCK.write_bytes(OLD[:40])
        with pytest.raises(dvc.DvcIsBusy, match="run this again when it has ended"):
            mend()
    assert LOCK.read_bytes() == OLD[:40]
    assert mend()


def test_a_folder_without_git_and_dvc_is_good_while_its_lock_is(world: Path) -> None:
    LOCK.write_bytes(NEW)
    assert not mend()
