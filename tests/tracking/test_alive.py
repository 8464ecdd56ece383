"""A process that dies leaves its mark, unlocked."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.tracking import alive
from pipeline.tracking.alive import Marker


def marks() -> list[tuple[str, str]]:
    return [(each.run_id, each.address) for each in alive.abandoned()]


def test_an_open_run_is_not_abandoned(world: Path) -> None:
    marker = Marker("a" * 32, "sqlite:///here.db")
    assert marks() == []
    marker.remove()
    assert marks() == []
    assert list((world / ".cache/runs").iterdir()) == []


def test_a_run_that_could_not_be_closed_is_left_to_the_next_start(world: Path) -> None:
    Marker("a" * 32, "http://127.0.0.1:9").let_go()
    assert marks() == [("a" * 32, "http://127.0.0.1:9")]
    (left,) = alive.abandoned()
    left.forget()
    assert marks() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_has_abandoned_its_run(world: Path, number: signal.Signals) -> None:
    code = (
        "import sys; from pipeline.tracking.alive import Marker\n"
        "marker = Marker('b' * 32, 'sqlite:///there.db'); print('open', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        assert marks() == []
        other.send_signal(number)
        other.wait()
        assert marks() == [("b" * 32, "sqlite:///there.db")]


def test_without_any_runs_there_are_none(world: Path) -> None:
    assert marks() == []
