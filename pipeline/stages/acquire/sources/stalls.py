"""End a process whose source does not answer.

A network file system that stalls blocks a call for ever, in the kernel, where no exception reaches
it.
"""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pipeline.core.terminal import print_line

MAX_SECONDS = 900  # for one file, or the next name of a listing: a slow disk reads a gigabyte
TICK = 1.0  # seconds
T = TypeVar("T")


class _Watch:
    """Counts the seconds of the access that is under way.

    Its own ticks and not the clock's: a process that was stopped or asleep did not wait.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._path: Path | None = None
        self._ticks = 0

    def start(self, path: Path) -> None:
        self._path, self._ticks = path, 0
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._path = None

    def _run(self) -> None:
        while True:
            time.sleep(TICK)
            self._ticks += 1
            path = self._path
            if path is not None and self._ticks * TICK > MAX_SECONDS:
                _end(path)


_watch = _Watch()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_watch.__init__)  # type: ignore[misc]


def _end(path: Path) -> None:
    print_line(
        f"error: {path} has not answered for {MAX_SECONDS:.0f} s: is the network or the disk that "
        "it is on there?",
        file=sys.stderr,
    )
    os._exit(1)


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """End this process if the block takes longer than MAX_SECONDS; blocks may not be nested."""
    _watch.start(path)
    try:
        yield
    finally:
        _watch.stop()


def watched_items(items: Iterable[T], path: Path) -> Iterator[T]:
    """Yield the items; each may take MAX_SECONDS to come."""
    iterator = iter(items)
    end = object()
    while True:
        with watched(path):
            item = next(iterator, end)
        if item is end:
            return
        yield item  # type: ignore[misc]
