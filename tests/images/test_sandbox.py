"""The sandbox kills its process, so each test runs in a forked process."""

import hashlib
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pipeline.images import sandbox
from pipeline.images.sandbox import MachineMemoryError, confined, deadline

NOBODY = 0  # no process has this id
MEGABYTE = 10**6

needs_status = pytest.mark.skipif(
    not sandbox.PROCESS_STATUS.exists(), reason="only Linux says how much memory a process has"
)


def call_in_fork(function: Callable[[], object]) -> tuple[int | None, object]:
    """The exit code of a process that calls `function`, negative when a signal ended it; and what
    the function returned."""
    fork = get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=_send, args=(function, sender))
    process.start()
    sender.close()
    process.join(20)
    if process.is_alive():
        process.kill()
        process.join()
        pytest.fail("the process was not killed in time")
    try:
        return process.exitcode, receiver.recv()
    except EOFError:
        return process.exitcode, None
    finally:
        receiver.close()


def _send(function: Callable[[], object], sender: Connection) -> None:
    sender.send(function())


def spin() -> None:
    while True:
        pass


def digest_forever() -> None:
    """Block in C, where no Python signal handler runs."""
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)


def spin_in_threads() -> None:
    for _ in range(2):
        threading.Thread(target=digest_forever, daemon=True).start()
    time.sleep(60)


@pytest.mark.parametrize(
    ("stuck", "number", "wall_factor"),
    [
        (spin, signal.SIGPROF, 1000),
        (digest_forever, signal.SIGPROF, 1000),
        (spin_in_threads, signal.SIGPROF, 1000),
        (lambda: time.sleep(60), signal.SIGALRM, 5),
    ],
)
def test_a_confined_process_dies_at_its_deadline(
    stuck: Callable[[], None], number: int, wall_factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        with confined(NOBODY, 500 * MEGABYTE), deadline(0.2):
            stuck()

    monkeypatch.setattr(sandbox, "WALL_FACTOR", wall_factor)
    assert call_in_fork(work) == (-number, None)


def test_time_that_other_processes_use_does_not_count() -> None:
    """The process waits for longer than it may work, as it does under load."""

    def work() -> str:
        with confined(NOBODY, 500 * MEGABYTE), deadline(0.5):
            time.sleep(1)
        return "alive"

    assert call_in_fork(work) == (0, "alive")


def test_the_time_of_an_image_grows_with_the_allowed_size() -> None:
    assert sandbox.seconds_for(50) == 45
    assert sandbox.seconds_for(1000) > 10 * sandbox.seconds_for(50)


def test_a_block_that_ends_in_time_cancels_its_deadline() -> None:
    def work() -> str:
        with confined(NOBODY, 500 * MEGABYTE):
            for _ in range(3):
                with deadline(0.2):
                    time.sleep(0.01)
            time.sleep(0.3)
        return "alive"

    assert call_in_fork(work) == (0, "alive")


def test_a_block_that_raises_cancels_its_deadline() -> None:
    def work() -> str:
        with confined(NOBODY, 500 * MEGABYTE):
            with pytest.raises(ArithmeticError), deadline(0.1):
                raise ArithmeticError
            time.sleep(0.2)
        return "alive"

    assert call_in_fork(work) == (0, "alive")


def test_a_process_that_is_no_longer_confined_has_no_deadline() -> None:
    def work() -> str:
        with confined(NOBODY, 500 * MEGABYTE):
            pass
        with deadline(0.05):
            time.sleep(0.2)
        return "alive"

    assert call_in_fork(work) == (0, "alive")


def test_the_main_process_is_never_confined() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA), signal.getsignal(signal.SIGALRM)
    with confined(os.getpid(), 1), deadline(0.05):
        assert (resource.getrlimit(resource.RLIMIT_DATA), signal.getsignal(signal.SIGALRM)) == (
            before
        )
        time.sleep(0.2)
        assert len(bytes(100 * MEGABYTE)) == 100 * MEGABYTE


def test_a_deadline_in_an_unconfined_process_has_no_effect() -> None:
    with deadline(0.05):
        time.sleep(0.2)


@needs_status
def test_too_much_memory_is_an_error_that_the_process_survives() -> None:
    def work() -> tuple[int, int]:
        with confined(NOBODY, 100 * MEGABYTE):
            with pytest.raises(MemoryError):
                bytes(4000 * MEGABYTE)  # more than an allocator may keep in reserve
            within = len(bytes(50 * MEGABYTE))
        return within, len(bytes(200 * MEGABYTE))

    assert call_in_fork(work) == (0, (50 * MEGABYTE, 200 * MEGABYTE))


@needs_status
def test_the_limit_is_added_to_the_memory_already_allocated() -> None:
    def work() -> int:
        allocated = bytes(300 * MEGABYTE)
        with confined(NOBODY, 100 * MEGABYTE):
            return len(allocated) + len(bytes(60 * MEGABYTE))

    assert call_in_fork(work) == (0, 360 * MEGABYTE)


@needs_status
@pytest.mark.parametrize("kind", [resource.RLIMIT_DATA, resource.RLIMIT_AS])
@pytest.mark.parametrize("which", ["soft", "hard"])
def test_a_lower_limit_of_the_session_is_the_machines_fault(kind: int, which: str) -> None:
    """As `ulimit -d` and `ulimit -v` set it."""

    def work() -> tuple[str, bool]:
        _, hard = resource.getrlimit(kind)
        lower = (sandbox._allocated_bytes() or 0) + 100 * MEGABYTE
        resource.setrlimit(kind, (lower, hard if which == "soft" else lower))
        with pytest.raises(MachineMemoryError) as error, confined(NOBODY, 1000 * MEGABYTE):
            pass
        return str(error.value), resource.getrlimit(kind)[0] == lower

    assert call_in_fork(work) == (0, ("the system does not give a process 1000 MB", True))


@needs_status
def test_memory_that_ran_out_meanwhile_is_the_machines_fault() -> None:
    def allocate() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        with confined(NOBODY, 1000 * MEGABYTE):
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 50 * MEGABYTE, hard))
            bytes(100_000 * MEGABYTE)  # more than malloc has kept of earlier tests

    def work() -> bool:
        with pytest.raises(MachineMemoryError):
            allocate()
        return True

    assert call_in_fork(work) == (0, True)


def test_there_is_no_limit_where_the_memory_in_use_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work() -> bool:
        before = resource.getrlimit(resource.RLIMIT_DATA)
        with confined(NOBODY, 1):
            return resource.getrlimit(resource.RLIMIT_DATA) == before

    monkeypatch.setattr(sandbox, "PROCESS_STATUS", sandbox.PROCESS_STATUS / "missing")
    assert call_in_fork(work) == (0, True)


def test_output_to_the_terminal_is_discarded_while_confined(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def work() -> None:
        os.write(2, b"before\n")
        with confined(NOBODY, 500 * MEGABYTE):
            os.write(2, b"libjpeg: Premature end of file\n")
            os.system("echo from a child >&2")
        os.write(2, b"after\n")

    assert call_in_fork(work) == (0, None)
    assert capfd.readouterr().err == "before\nafter\n"


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_limits_and_files_are_restored_after_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> bool:
        before = resource.getrlimit(resource.RLIMIT_DATA), open_files()
        with pytest.raises(ArithmeticError), confined(NOBODY, 500 * MEGABYTE):
            raise ArithmeticError
        os.write(2, b"seen\n")
        return before == (resource.getrlimit(resource.RLIMIT_DATA), open_files())

    assert call_in_fork(work) == (0, True)
    assert capfd.readouterr().err == "seen\n"
