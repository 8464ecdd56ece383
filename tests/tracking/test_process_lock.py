"""A process that dies leaves its mark, unlocked."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.tracking import process_lock
from pipeline.tracking.process_lock import ProcessLock


def marks() -> list[tuple[str, str]]:
    return [(each.name, each.address) for each in process_lock.abandoned()]


def test_an_open_run_is_not_abandoned(world: Path) -> None:
    mark = ProcessLock("sqlite:///here.db")
    assert marks() == []
    assert process_lock.is_alive(mark.name)
    mark.remove()
    assert marks() == []
    assert not process_lock.is_alive(mark.name)
    assert list((world / ".cache/runs").iterdir()) == []


def test_a_run_that_could_not_be_closed_is_left_to_the_next_start(world: Path) -> None:
    mark = ProcessLock("http://127.0.0.1:9")
    mark.let_go()
    assert marks() == [(mark.name, "http://127.0.0.1:9")]
    (left,) = process_lock.abandoned()
    left.forget()
    assert marks() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_has_abandoned_its_run(world: Path, number: signal.Signals) -> None:
    code = (
        "import sys; from pipeline.tracking.alive import Mark\n"
        "mark = Mark('sqlite:///there.db'); print(mark.name, flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        name = other.stdout.readline().decode().strip()
        assert marks() == []
        assert process_lock.is_alive(name)
        other.send_signal(number)
        other.wait()
        assert marks() == [(name, "sqlite:///there.db")]


def test_without_any_runs_there_are_none(world: Path) -> None:
    assert marks() == []


def test_what_a_server_says_is_no_path(world: Path) -> None:
    for name in ("", "..", "../../etc/passwd", "a" * 31):
        assert not process_lock.is_alive(name)
