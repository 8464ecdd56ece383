"""The last line of the terminal, which says how far the work is."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

DEFAULT_WIDTH = 80  # columns


class StatusLine:
    """A line on standard error that is drawn over, and that gives way to what is printed."""

    def __init__(self) -> None:
        self._lock = RLock()  # the thread that draws is not the one that prints
        self._length = 0  # characters on the terminal

    def renew_lock(self) -> None:
        """In a fork: a thread that it lacks may hold its copy of the lock."""
        self._lock = RLock()

    def is_possible(self) -> bool:
        """Whether standard error is a terminal that can draw over a line."""
        return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def width(self) -> int:
        """Columns that a line may have without being wrapped."""
        try:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns
        except (OSError, ValueError):
            columns = 0
        return (columns or DEFAULT_WIDTH) - 1  # some terminals report no size

    def draw(self, text: str) -> None:
        """Replace the line."""
        with self._lock:
            self._write("\r" + text.ljust(self._length))
            self._length = len(text)

    def clear(self) -> None:
        """Remove the line."""
        with self._lock:
            if self._length:
                self._write("\r" + " " * self._length + "\r")
            self._length = 0

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Print something else in the block."""
        with self._lock:
            self.clear()
            yield

    def leave(self) -> None:
        """Leave the line where it is, and go on below it."""
        with self._lock:
            self._write("\n" if self._length else "")
            self._length = 0

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


status_line = StatusLine()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=status_line.renew_lock)
