"""The lock of a process ends with the process; its file stays for the next start."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.tracking import process_lock
from pipeline.tracking.process_lock import ProcessLock

LOCK = (
    "import os, sys, time; from pipeline.tracking.process_lock import ProcessLock\n"
    "lock = ProcessLock('sqlite:///there.db'); print(lock.name, flush=True)\n"
)


def abandoned() -> list[tuple[str, str]]:
    return [(lock.name, lock.address) for lock in process_lock.abandoned_locks()]


def test_an_open_run_is_not_abandoned(world: Path) -> None:
    lock = ProcessLock("sqlite:///here.db")
    assert abandoned() == []
    assert process_lock.is_alive(lock.name)
    lock.remove()
    assert abandoned() == []
    assert not process_lock.is_alive(lock.name)
    assert list((world / ".cache/runs").iterdir()) == []


def test_a_released_lock_is_abandoned_until_it_is_removed(world: Path) -> None:
    lock = ProcessLock("http://127.0.0.1:9")
    lock.release()
    assert not process_lock.is_alive(lock.name)
    assert abandoned() == [(lock.name, "http://127.0.0.1:9")]
    (abandoned_lock,) = process_lock.abandoned_locks()
    abandoned_lock.remove()
    assert abandoned() == []


def test_an_empty_file_is_no_abandoned_lock(world: Path) -> None:
    """A process was killed before it wrote the store's address, so before it made a run."""
    lock = ProcessLock("sqlite:///here.db")
    (world / ".cache/runs" / ("0" * 32)).touch()
    assert abandoned() == []
    lock.remove()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize(
    "fork", ["", "if os.fork() == 0: print(flush=True); time.sleep(60); sys.exit()\n"]
)
def test_a_killed_process_abandons_its_lock(world: Path, number: signal.Signals, fork: str) -> None:
    """Also where it has forked a child that outlives it."""
    with subprocess.Popen(
        [sys.executable, "-c", f"{LOCK}{fork}print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().decode().strip()
        process.stdout.readline()
        if fork:
            process.stdout.readline()  # the child runs, so it has closed what it inherited
        try:
            assert abandoned() == []
            assert process_lock.is_alive(name)
            process.send_signal(number)
            process.wait()
            assert abandoned() == [(name, "sqlite:///there.db")]
        finally:
            if fork:
                os.killpg(process.pid, signal.SIGKILL)


def test_without_a_folder_no_lock_is_abandoned(world: Path) -> None:
    assert abandoned() == []


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "a" * 31])
def test_a_name_that_is_no_lock_is_not_alive(world: Path, name: str) -> None:
    assert not process_lock.is_alive(name)
