"""A worker process for untrusted images: one may crash it, and its exit code tells why.

A pipe of its own connects it, so that a worker killed in the middle of a result ends its pipe. In
a queue that workers share, as executors have, the reader would wait for the rest for ever.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from multiprocessing.connection import Connection
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self

from loky.backend import get_context, resource_tracker

from pipeline.core import deferred_imports
from pipeline.core.errors import PipelineError
from pipeline.images.sandbox import MachineMemoryError

PARENT_CHECK_SECONDS = 1
TEMPORARY_FAILURE = 75  # exit code, EX_TEMPFAIL of sysexits.h
EXIT_CODE_SECONDS = 5  # the system reports a dead process a little later than its closed pipe
# Images are the unit of parallelism.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Cause(Enum):
    """What ended a worker, or its work on an image."""

    LIMIT = auto()
    """The image needed more time or memory than `sandbox` allows."""
    CRASH = auto()
    """An error in a decoder: of this image, or of memory that an earlier one damaged."""
    MACHINE = auto()
    """Something else: the system when memory is short, a person, or a failed start."""


# Other signals come from outside, such as SIGKILL from the system when memory is short, and
# SIGXCPU when a limit of the whole session is used up. A decoder may also call `exit`.
CAUSES = {
    "SIGPROF": Cause.LIMIT,
    "SIGALRM": Cause.LIMIT,
    "SIGSEGV": Cause.CRASH,
    "SIGBUS": Cause.CRASH,
    "SIGABRT": Cause.CRASH,
    "SIGFPE": Cause.CRASH,
    "SIGILL": Cause.CRASH,
    "SIGTRAP": Cause.CRASH,
}


class WorkerFailure(Exception):
    """A worker ended, or had too little memory."""

    def __init__(self, cause: Cause, why: str) -> None:
        super().__init__(cause, why)
        self.cause = cause
        self.why = why
        """For people: such as "it was ended by SIGKILL"."""


class Worker:
    """A process that is started by the first call, and again by a call after it has ended.

    It ends when its parent does, even if that is killed.
    """

    def __init__(self, prepare: Callable[[], None] | None = None) -> None:
        """The process calls `prepare` first; its module is imported there."""
        self._prepare = prepare
        self._process: Any = None
        self._connection: Any = None
        self._function: object = None  # that the process has
        self._lock = Lock()  # of the start, which another thread may prevent by `close`
        self._is_closed = False
        self.is_fresh = True
        """Whether the process has worked on nothing yet: nothing can have damaged its memory."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def call(self, function: Callable[[Any], Any], argument: object) -> Any:
        """The result of `function` in the process.

        Raises:
            WorkerFailure: the process ended, had too little memory, or could not start.
            PipelineError: an error of Python stopped it while it started.
        """
        self.start()
        if self._function is not function:
            try:
                self._exchange((function, None))  # imports what the function needs
            except WorkerFailure as failure:
                raise WorkerFailure(Cause.MACHINE, f"{failure.why} at its start") from failure
            self._function = function
        self.is_fresh = False
        return self._exchange((None, argument))

    def close(self) -> None:
        """Kill the process, also while another thread waits for it; it does not start again."""
        with self._lock:
            self._is_closed = True
            process = self._process  # which the other thread sets to None
        if process is not None:
            process.terminate()
            if _exit_code(process) is None and hasattr(signal, "SIGKILL"):  # it is suspended
                with suppress(ProcessLookupError):  # another thread has waited for it
                    os.kill(process.pid, signal.SIGKILL)

    def start(self) -> None:
        """Start the process, unless it runs, without waiting for it.

        Raises:
            WorkerFailure: it could not start.
        """
        with self._lock:
            if self._is_closed:
                raise WorkerFailure(Cause.MACHINE, "it was closed")
            if self._process is not None:
                return
            try:
                self._process, self._connection = _launch(self._prepare)
            except OSError as error:  # no more processes, memory or files; or it is dead already
                raise _start_failure(error) from error
            except UnboundLocalError as error:  # loky's, where there is no file for its pipes
                raise _start_failure(error.__context__) from error
            self._function = None

    def _exchange(self, message: tuple[object, object]) -> Any:
        try:
            self._connection.send(message)
            result, error = self._connection.recv()
        except (EOFError, OSError) as ended:
            raise self._failure() from ended
        except BaseException:  # the rest of an answer is in the pipe
            self._process.terminate()
            self._failure()
            raise
        if error is not None:
            raise error
        return result

    def _failure(self) -> WorkerFailure:
        """Why the process ended."""
        code = _exit_code(self._process)
        self._process, self.is_fresh = None, True
        self._connection.close()
        if code is None:
            return WorkerFailure(Cause.MACHINE, "it ended")
        if code >= 0:
            cause = Cause.MACHINE if code == TEMPORARY_FAILURE else Cause.CRASH
            return WorkerFailure(cause, f"it ended with exit code {code}")
        name = _signal_name(-code)
        return WorkerFailure(CAUSES.get(name, Cause.MACHINE), f"it was ended by {name}")


def _start_failure(error: BaseException | None) -> WorkerFailure:
    return WorkerFailure(Cause.MACHINE, f"it could not start ({error})")


def _launch(prepare: Callable[[], None] | None) -> tuple[Any, Connection]:
    """A new process, and our end of its pipe."""
    context = get_context("loky")  # without the main module, whose import takes long
    ours, theirs = context.Pipe()
    with theirs:
        process = context.Process(
            target=_serve, args=(theirs, os.getpid(), prepare), daemon=True, env=ONE_THREAD
        )
        # Otherwise the first start would start it, and undo the block.
        resource_tracker._resource_tracker.getfd()
        with _without_interrupts():
            process.start()
    return process, ours


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C, also from processes that start: Python would print where it was."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _exit_code(process: Any) -> int | None:
    """The exit code of a process that ends; minus the number of the signal that ended it."""
    end = time.monotonic() + EXIT_CODE_SECONDS
    process.join(EXIT_CODE_SECONDS)
    while process.exitcode is None and time.monotonic() < end:  # another thread asks for it too
        time.sleep(0.01)
    code: int | None = process.exitcode
    return code


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most signals for real time have none
        return f"signal {number}"


# ---- in the process ----


def _serve(connection: Connection, parent: int, prepare: Callable[[], None] | None) -> None:
    """Answer each function by nothing, and each argument by (result, None) or (None, error)."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C; the parent decides
        Thread(target=_exit_with, args=(parent,), daemon=True).start()
        deferred_imports.install(as_program=True)
        if prepare is not None:
            prepare()
        function: Any = None
        while True:
            new_function, argument = connection.recv()
            function = new_function or function
            connection.send((None, None) if new_function else _answer(function, argument))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent closed the connection
    except BaseException as error:  # noqa: BLE001 # Python's exit code would blame an image
        try:
            _report(connection, error)
        finally:
            os._exit(TEMPORARY_FAILURE)


def _exit_with(parent: int) -> None:
    """No signal reports that the parent was killed, so check."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)


def _answer(function: Callable[[Any], Any], argument: object) -> tuple[Any, Exception | None]:
    try:
        return function(argument), None
    except MemoryError as error:
        cause = Cause.MACHINE if isinstance(error, MachineMemoryError) else Cause.LIMIT
        return None, WorkerFailure(cause, f"it has too little memory ({error})")
    except Exception as error:  # noqa: BLE001 # it is raised in the parent
        error.add_note("".join(traceback.format_exception(error)))  # which pickling drops
        return None, error


def _report(connection: Connection, error: BaseException) -> None:
    """Send what stops the process as a sentence, if that is possible."""
    traceback.print_exception(error, file=sys.stderr)
    why = f"{type(error).__name__}: {error}"
    connection.send((None, PipelineError(f"a worker process cannot work here ({why})")))
