"""Limits for a worker process that decodes untrusted bytes: memory, time, and no output.

Only worker processes are limited. A time limit kills them, by a signal that nothing else sends.
"""

import errno
import mmap
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

PROCESS_STATUS = Path("/proc/self/status")  # Linux; elsewhere memory is not limited
BASE_SECONDS = 20  # of processor time for an image, besides what grows with its size
SECONDS_PER_MEGAPIXEL = 0.5  # of the largest allowed image
WALL_FACTOR = 15  # time that may pass, per allowed processor time: other processes take their share
BASE_MEGABYTES = 500  # for a worker, besides what the largest allowed image needs
BYTES_PER_PIXEL = 24  # of the largest allowed image, with transparency: several copies

_confined = ContextVar("confined", default=False)  # whether a deadline may kill this process


def memory_for(max_megapixels: float) -> int:
    """Bytes that a worker may allocate if images have at most this many pixels."""
    return int(BASE_MEGABYTES * 1e6 + max_megapixels * 1e6 * BYTES_PER_PIXEL)


def seconds_for(max_megapixels: float) -> float:
    """Seconds of processor time for an image if images have at most this many pixels."""
    return BASE_SECONDS + max_megapixels * SECONDS_PER_MEGAPIXEL


class MachineMemoryError(MemoryError):
    """The machine has too little memory, whatever the images need."""


@contextmanager
def confined(home: int, memory: int) -> Iterator[None]:
    """Limit and silence this process, unless it is the main process, which has the id `home`.

    Args:
        memory: Bytes that the block may allocate, besides those allocated before.

    Raises:
        MemoryError: the block needs more.
        MachineMemoryError: the machine cannot give that much.
    """
    if os.getpid() == home:
        yield
        return
    _check_memory(memory)
    token = _confined.set(True)
    try:
        with _limited_memory(memory), _silent_stderr():
            yield
    except OSError as error:
        if error.errno != errno.ENOMEM:  # for example from a library that could not be loaded
            raise
        _check_memory(memory)
        raise MemoryError(str(error)) from error
    except MemoryError:
        _check_memory(memory)
        raise
    finally:
        _confined.reset(token)


def _check_memory(memory: int) -> None:
    """Raise MachineMemoryError if this process cannot get `memory` bytes beside what it has."""
    if not PROCESS_STATUS.exists():
        return
    try:
        mmap.mmap(-1, memory, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError as error:
        raise MachineMemoryError(
            f"the system does not give a process {memory / 1e6:.0f} MB"
        ) from error


@contextmanager
def _limited_memory(memory: int) -> Iterator[None]:
    allocated = _allocated_bytes()
    if allocated is None:
        yield
        return
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = min(n for n in (soft, allocated + memory) if n != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what C libraries write to file descriptor 2."""
    stderr, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(devnull)


def _allocated_bytes() -> int | None:
    """Private memory of this process; None where the system does not report it."""
    if not PROCESS_STATUS.exists():
        return None
    (kibibytes,) = (
        line.split()[1]
        for line in PROCESS_STATUS.read_text().splitlines()
        if line.startswith("VmData:")
    )
    return int(kibibytes) * 1024


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Kill this process, if it is confined, when the block takes longer, even in C code.

    Args:
        seconds: Of processor time, by all threads. `WALL_FACTOR` times as many may pass.
    """
    if not _confined.get() or not hasattr(signal, "setitimer"):  # not on Windows
        yield
        return
    timers = {
        signal.ITIMER_PROF: (signal.SIGPROF, seconds),
        signal.ITIMER_REAL: (signal.SIGALRM, seconds * WALL_FACTOR),
    }
    for timer, (number, limit) in timers.items():
        # The default action kills at once; a Python handler would wait until C code returns.
        signal.signal(number, signal.SIG_DFL)
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
