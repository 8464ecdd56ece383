"""Programs in forked children of this process: its imports are theirs, so a start takes no time."""

import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

MAX_SECONDS = 120
# The warnings that Python hides by itself.
HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


class Fork:
    """A `main` that runs in a process of its own, whose output goes to a file."""

    def __init__(
        self, main: Callable[[], object], words: list[str], output: Path, **environment: str
    ) -> None:
        self.output = output
        self._start = time.monotonic()
        context = multiprocessing.get_context("fork")
        self.process: BaseProcess = context.Process(
            target=_run, args=(main, words, output, environment)
        )
        self.process.start()

    def check(self) -> None:
        """Fail with its output if it has ended, or runs for longer than any test needs."""
        assert self.process.is_alive(), self.output.read_text()
        if time.monotonic() - self._start > MAX_SECONDS:
            self.kill()
            raise AssertionError(f"it hangs: {self.output.read_text()}")

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def wait(self) -> int | None:
        """Its exit code: negative of a signal, None if it does not end."""
        self.process.join(timeout=MAX_SECONDS)
        return self.process.exitcode

    def finish(self) -> str:
        """Wait for its end without an error; return its output."""
        assert self.wait() == 0, self.output.read_text()
        return self.output.read_text()


def _run(
    main: Callable[[], object], words: list[str], output: Path, environment: dict[str, str]
) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    warnings.resetwarnings()  # pytest makes errors of them
    for category in HIDDEN:
        warnings.simplefilter("ignore", category)
    os.environ.update(environment)
    sys.argv = words
    main()
