"""Killed processes are forks of the test that end by SIGKILL inside `atomic.replacing`."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core import atomic, staging

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")


def write_and(act: Callable[[], object], path: Path) -> None:
    """In a fork, write the first half of a file in place of `path`, and call `act`."""
    child = os.fork()
    if child == 0:
        with atomic.replacing(path) as staged:
            staged.write_text("half")
            act()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def kill_writer(path: Path) -> None:
    write_and(lambda: os.kill(os.getpid(), signal.SIGKILL), path)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("place", ["reports", "data", ".", ".cache/features", "elsewhere"])
def test_the_next_start_removes_what_a_killed_process_left(world: Path, place: str) -> None:
    """`elsewhere` is a folder on another disk, of which nothing else is written again."""
    (world / ".cache").mkdir()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if place == "elsewhere" else world) as other:
        if place == "elsewhere":
            (world / place).symlink_to(other)
        kill_writer(world / place / "out")
        assert len(staging._find_abandoned()) == 1
        assert not (world / place / "out").exists()
        staging.remove_abandoned()
        assert files(world) == []
        assert files(Path(other)) == []


def test_a_stage_removes_them_when_it_starts(world: Path) -> None:
    kill_writer(world / "data/raw")
    code = "from pipeline.core import stage; stage.run(lambda: None)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert files(world) == []


def test_the_first_output_of_a_command_removes_them(world: Path) -> None:
    kill_writer(world / "data/raw")
    atomic.write_text(world / "predictions.csv", "new")
    assert files(world) == ["predictions.csv"]


@pytest.mark.parametrize("place", ["reports", "data", "."])
def test_outputs_of_the_project_are_not_made_beside_their_places(world: Path, place: str) -> None:
    """A half report there could be committed with `git add reports`."""
    kill_writer(world / place / "out")
    assert all(name.startswith(".cache/staging/") for name in files(world))


def test_what_a_process_is_writing_stays(world: Path) -> None:
    """However long it takes."""
    with atomic.replacing(world / "data/raw") as staged:
        staged.write_text("half")
        os.utime(staged.parent, (0, 0))
        assert staging._find_abandoned() == []
        staging.remove_abandoned()
        atomic.write_text(world / "data/skipped.csv", "new")
        assert staged.exists()
    assert files(world) == ["data/raw", "data/skipped.csv"]


def test_a_fork_that_outlives_the_killed_process_does_not_keep_its_folder(world: Path) -> None:
    reader, writer = os.pipe()

    def fork_and_end() -> None:
        if os.fork() == 0:
            os.close(writer)
            os.read(reader, 1)  # until the test closes the pipe
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    write_and(fork_and_end, world / "data/raw")
    deadline = time.monotonic() + 20  # the fork closes what it inherits when it first runs
    while not staging._find_abandoned() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(staging._find_abandoned()) == 1
    os.close(writer)
    os.close(reader)


@pytest.mark.parametrize(("hours", "left"), [(23, True), (25, False)])
def test_a_folder_of_another_machine_stays_for_a_day(world: Path, hours: int, left: bool) -> None:
    """Some file systems that machines share have locks that other machines do not see."""
    kill_writer(world / "data/raw")
    (lock,) = (world / ".cache/staging").glob("*.lock")
    folder = json.loads(lock.read_text())[0]
    lock.write_text(json.dumps([folder, "other", "0123"]))
    then = time.time() - hours * 3600
    os.utime(lock, (then, then))
    staging.remove_abandoned()
    assert Path(folder).exists() is left


def test_a_lock_that_names_another_folder_removes_nothing(world: Path) -> None:
    """Such as one from a copy of the project's folder, or a damaged one."""
    kill_writer(world / "data/raw")
    (lock,) = (world / ".cache/staging").glob("*.lock")
    (world / "mine").mkdir()
    lock.write_text(json.dumps([str(world / "mine"), *json.loads(lock.read_text())[1:]]))
    staging.remove_abandoned()
    assert (world / "mine").exists()
    lock.write_text("")
    staging.remove_abandoned()


def test_without_a_place_for_locks_files_are_written_all_the_same(world: Path) -> None:
    (world / ".cache").write_text("no folder")
    with atomic.replacing(world / "reports/out") as staged:
        assert staged.parent.parent == world / "reports"
        staged.write_text("new")
    assert files(world) == [".cache", "reports/out"]


def test_a_project_in_a_folder_with_a_similar_name_is_no_staging_folder() -> None:
    assert not staging.is_staged(Path("/srv/app.staging-eu/project/data/raw"))
    assert staging.is_staged(
        Path("/srv/project/.cache/staging/.raw.staging-0123abcd/raw/order.npy")
    )


@pytest.mark.parametrize("form", ['["{}", "x"]', '["{}", ["x"]]', "5", "{{}}", "[5]", "[]"])
def test_a_lock_with_any_other_text_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Not even a folder of the lock's own name."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    photos = tmp_path / "photos"
    photos.mkdir()
    lock = tmp_path / ".cache/staging/photos.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(form.format(photos))
    os.utime(lock, (0, 0))
    staging.remove_abandoned()
    assert photos.is_dir()
