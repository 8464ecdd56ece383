"""Progress of everything that may take more than two seconds: bars on terminals, lines in logs.

A thread prints it, because results may come in bursts: the time goes on between them.
"""

import os
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from pipeline.core import program
from pipeline.core.status_line import status_line
from pipeline.core.terminal import print_line, printable

DELAY = 2  # seconds after the start of the program before anything is drawn
REDRAW = 0.25  # seconds
LOG_INTERVAL = 10  # seconds between the lines of a log, and before the first
LOG_DELAY = 2  # seconds after the start of some work before a log has a line about it
LOG_FORMAT = (
    "{desc}: {percentage:.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
)


class Progress:
    """How much of some work is done, with rate and time left.

    The rate is the mean since the start: that of the last results would say little of bursts.
    """

    def __init__(
        self, title: str, total: float | None, unit: str, scale: bool, done: float, is_shown: bool
    ) -> None:
        self.count = self._first = done
        self.total = total
        self.note = ""
        """Printed after the rate, such as the loss of the last epoch."""
        self._title, self._unit, self._scale = printable(title), unit, scale
        self._is_shown = is_shown
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        if self._is_shown:
            _reporter.open(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_shown:
            _reporter.close(self)

    def update(self, units: float = 1) -> None:
        """Count units that are done."""
        self.count += units

    def add_to_total(self, units: float) -> None:
        """Count units that are still to do."""
        self.total = (self.total or 0) + units

    def start_at(self, done: float) -> None:
        """Set the units that were done before, after the work has begun."""
        self.count = self._first = done

    def has_work(self) -> bool:
        """Whether there is something to count."""
        return self.total != 0

    def draw(self) -> None:
        """Draw a bar over the last line of the terminal."""
        status_line.draw(self._describe(status_line.width()))

    def log(self) -> None:
        """Print a line about work that is not short, unless there was one of any work just now."""
        now = time.monotonic()
        if now - self._start >= LOG_DELAY and now - _reporter.last_line >= LOG_INTERVAL:
            _reporter.last_line = now
            print_line(self._describe(None), file=sys.stderr)

    def _describe(self, width: int | None) -> str:
        from tqdm import tqdm  # its import takes 0.03 s, which short work does not need

        elapsed = time.monotonic() - self._start
        total = self.total
        text: str = tqdm.format_meter(
            int(self.count) if self.count == int(self.count) else round(self.count, 1),
            total,  # type: ignore[arg-type]
            elapsed,
            ncols=width,
            prefix=self._title,
            unit=self._unit,
            unit_scale=self._scale,
            rate=(self.count - self._first) / elapsed if elapsed else None,
            bar_format=LOG_FORMAT if width is None and total else None,
            postfix=printable(self.note),
            ascii=not _can_print_blocks(),
        )
        return text


class _Activity(Progress):
    """Work on something that is not counted, such as imports."""

    def draw(self) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._start), 60)
        status_line.draw(f"{self._title}: working [{minutes:02}:{seconds:02}]")

    def log(self) -> None:
        """No log line: only the name is known."""


class _Reporter:
    """A thread that prints the innermost of the open bars."""

    def __init__(self) -> None:
        self._open: list[Progress] = []
        self._lock = threading.RLock()
        self._is_running = False
        self._is_on_terminal = False
        self.last_line = program.START
        """When a log had its last line."""

    def open(self, progress: Progress) -> None:
        with self._lock:
            self._open.append(progress)
            if not self._is_running:
                self._is_running = True
                self._is_on_terminal = status_line.is_possible()
                threading.Thread(target=self._run, name="progress", daemon=True).start()

    def close(self, progress: Progress) -> None:
        """Stop; a bar that was drawn stays on the terminal with its last numbers."""
        with self._lock:
            if progress not in self._open:  # of a process that has forked
                return
            self._open.remove(progress)
            is_nested = any(not isinstance(other, _Activity) for other in self._open)
            with suppress(OSError, ValueError):
                self._end(progress, is_nested)

    def close_all(self) -> None:
        """Stop, and leave nothing on the terminal."""
        with self._lock, suppress(OSError, ValueError):
            self._open.clear()
            status_line.clear()

    def _end(self, progress: Progress, is_nested: bool) -> None:
        if self._is_on_terminal and not is_nested and progress.has_work() and _is_due():
            progress.draw()
            status_line.leave()
        else:
            status_line.clear()

    def _run(self) -> None:
        while True:
            time.sleep(REDRAW)
            with self._lock:
                if not self._open:
                    self._is_running = False
                    return
                with suppress(OSError, ValueError):  # the terminal is gone
                    self._report()

    def _report(self) -> None:
        progress = next((other for other in reversed(self._open) if other.has_work()), None)
        if progress is None:
            return
        if not self._is_on_terminal:
            progress.log()
        elif _is_due():
            progress.draw()


_reporter = _Reporter()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reporter.__init__)  # type: ignore[misc]


def bar(
    title: str,
    total: float | None,
    unit: str = "img",
    *,
    scale: bool = False,
    done: float = 0,
    is_shown: bool = True,
) -> Progress:
    """A bar with rate and time left, once the program has run for two seconds.

    Args:
        total: Number of units, or None where it is unknown.
        scale: Whether to print units as k, M, G (for bytes).
        done: Units that were done before, and do not count for the rate.
        is_shown: False in all but one of several processes that do the same.
    """
    return Progress(title, total, unit, scale, done, is_shown)


def activity(name: str) -> Progress:
    """Work that is not counted: a terminal shows its name and the time, whenever no bar says more.

    Logs say nothing of it.
    """
    return _Activity(name, None, "", scale=False, done=0, is_shown=status_line.is_possible())


def show_activity(name: str) -> None:
    """Say on a terminal that a stage or command is at work, until `hide_activity`."""
    activity(name).__enter__()


def hide_activity() -> None:
    """End what `show_activity` began."""
    _reporter.close_all()


def _is_due() -> bool:
    return time.monotonic() - program.START >= DELAY


def _can_print_blocks() -> bool:
    return (getattr(sys.stderr, "encoding", None) or "").lower().startswith("utf")
