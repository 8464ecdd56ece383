"""What keeps a worker's bad luck to itself: an image that hangs, balloons or kills a decoder.

In a worker process a deadline kills, and memory is bounded; elsewhere neither has an effect, so
that nobody dies but a process that can be replaced.
"""

import errno
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")  # of Linux; elsewhere memory is not bounded
SECONDS = 20  # that one image may take
MEGABYTES = 500  # that a worker may take beside what the largest allowed image needs
BYTES_PER_PIXEL = 24  # of such an image, with transparency: in several copies

_confined = ContextVar("confined", default=False)  # whether a deadline may kill this process


@dataclass(frozen=True)
class Isolation:
    """How a map treats what kills its worker."""

    stand_in: Callable[[str], Mapping[str, Any]]
    """The result for the id of an image that did."""
    memory: int
    """Bytes that a worker may take beside what it has when it starts on a batch."""


def memory_for(max_megapixels: float) -> int:
    """Bytes that a worker may take, where images have at most so many pixels."""
    return int(MEGABYTES * 1e6 + max_megapixels * 1e6 * BYTES_PER_PIXEL)


@contextmanager
def confined(home: int, memory: int) -> Iterator[None]:
    """Bound and silence this process, unless it is the one with the process id `home`."""
    if os.getpid() == home:
        yield
        return
    token = _confined.set(True)
    try:
        with _bounded(memory), _silenced():
            yield
    except OSError as error:
        if error.errno == errno.ENOMEM:  # as from a library that could not be loaded
            raise MemoryError(str(error)) from error
        raise
    finally:
        _confined.reset(token)


@contextmanager
def _bounded(memory: int) -> Iterator[None]:
    """Let this process take at most `memory` bytes more than it has, where the system is Linux."""
    if not STATUS.exists():
        yield
        return
    import resource  # Windows has none

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = (soft, _taken() + memory)
    least = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (least, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextmanager
def _silenced() -> Iterator[None]:
    """Nothing that decoders write to the terminal, past Python, gets there."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _taken() -> int:
    """Bytes of private memory that this process has."""
    (kibibytes,) = (
        line.split()[1] for line in STATUS.read_text().splitlines() if line.startswith("VmData:")
    )
    return int(kibibytes) * 1024


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Kill this process, where it is confined, if the block takes longer: also in foreign code."""
    if not _confined.get() or not hasattr(signal, "setitimer"):  # Windows has no such timer
        yield
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # to die; a Python handler would wait its turn
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
