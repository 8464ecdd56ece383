import gc
import os
import signal
from collections.abc import Iterator

import pytest
from loky.backend import resource_tracker

from pipeline.core.errors import PipelineError
from pipeline.images import worker as worker_module
from pipeline.images.worker import Cause, Worker, WorkerFailure
from pipeline.images.worker import _launch as launch_worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


def end(code: int) -> int:
    """End this process with an exit code, or by a signal if it is negative."""
    if code >= 0:
        os._exit(code)
    os.kill(os.getpid(), -code)
    return 0


def process_id(_: None) -> int:
    return os.getpid()


def fail(text: str) -> None:
    raise ArithmeticError(text)


@pytest.mark.parametrize(
    ("code", "cause", "why"),
    [
        (-signal.SIGPROF, Cause.LIMIT, "it was ended by SIGPROF"),
        (-signal.SIGALRM, Cause.LIMIT, "it was ended by SIGALRM"),
        (-signal.SIGSEGV, Cause.CRASH, "it was ended by SIGSEGV"),
        (-signal.SIGBUS, Cause.CRASH, "it was ended by SIGBUS"),
        (-signal.SIGABRT, Cause.CRASH, "it was ended by SIGABRT"),
        (-signal.SIGFPE, Cause.CRASH, "it was ended by SIGFPE"),
        (0, Cause.CRASH, "it ended with exit code 0"),
        (1, Cause.CRASH, "it ended with exit code 1"),
        (-signal.SIGKILL, Cause.MACHINE, "it was ended by SIGKILL"),
        (-signal.SIGTERM, Cause.MACHINE, "it was ended by SIGTERM"),
        (-signal.SIGXCPU, Cause.MACHINE, "it was ended by SIGXCPU"),
        (-(signal.SIGRTMIN + 5), Cause.MACHINE, f"it was ended by signal {signal.SIGRTMIN + 5}"),
    ],
)
def test_the_end_of_a_process_tells_its_cause(
    worker: Worker, code: int, cause: Cause, why: str
) -> None:
    for _ in range(2):  # it starts again
        assert worker.is_fresh
        with pytest.raises(WorkerFailure) as failure:
            worker.call(end, code)
        assert (failure.value.cause, failure.value.why) == (cause, why)
    assert worker.call(abs, -3) == 3
    assert not worker.is_fresh


def test_an_error_of_the_function_names_its_place_in_the_worker(worker: Worker) -> None:
    with pytest.raises(ArithmeticError, match="is too much") as error:
        worker.call(fail, "f is too much")
    assert "raise ArithmeticError(text)" in error.value.__notes__[0]
    assert worker.call(abs, -3) == 3


def test_one_process_serves_several_functions(worker: Worker) -> None:
    processes = {worker.call(os.getpgid, 0), worker.call(os.getpgid, 0)}
    assert worker.call(abs, -2) == 2
    assert len(processes) == 1


def test_a_closed_worker_does_not_start_again(worker: Worker) -> None:
    worker.close()
    with pytest.raises(WorkerFailure, match="closed"):
        worker.call(abs, -2)


def test_a_process_that_another_thread_waited_for_is_closed(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "EXIT_CODE_SECONDS", 0.1)
    process = worker.call(process_id, None)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    worker.close()


def start_with(files: int) -> WorkerFailure | None:
    """Start a process when this one may open so many more files; None if it could start."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    starting = Worker()
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + files, limits[1]))
    try:
        starting.call(abs, -2)
    except WorkerFailure as failure:
        return failure
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        starting.close()
    return None


def test_too_few_open_files_are_the_machines_fault(worker: Worker) -> None:
    """Whichever of the files of a new process is the one too many."""
    pytest.importorskip("resource")
    assert worker.call(abs, -2) == 2  # loky's own process runs
    gc.collect()
    for files in range(8):
        # Threads of earlier tests may close files in between, which makes room.
        tries = (start_with(files) for _ in range(5))
        failure = next(filter(None, tries), None)
        assert failure is not None, files
        assert failure.cause is Cause.MACHINE
        assert "it could not start ([Errno 24] Too many open files)" in failure.why


def exit_then_answer(_: int) -> int:
    raise SystemExit(1)


def test_python_that_ends_the_process_blames_no_image(worker: Worker) -> None:
    with pytest.raises(PipelineError, match=r"cannot work here .SystemExit: 1"):
        worker.call(exit_then_answer, 0)


@pytest.mark.parametrize("is_first", [False, True])
def test_ctrl_c_does_not_reach_a_process_that_starts(
    is_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal sends it to all processes; the parent ends them.

    With the first process, loky starts another, and lets Ctrl-C through again.
    """
    tracker = resource_tracker._resource_tracker
    if is_first:
        monkeypatch.setattr(tracker, "_fd", None)
        monkeypatch.setattr(tracker, "_pid", None)
    process, connection = launch_worker(None)
    os.kill(process.pid, signal.SIGINT)  # Python has not begun yet
    connection.send((abs, None))
    assert connection.recv() == (None, None)
    connection.send((None, -3))
    assert connection.recv() == (3, None)
    connection.close()
    process.join(20)
    assert process.exitcode == 0
    if is_first:
        os.close(tracker._fd)
        os.waitpid(tracker._pid, 0)
