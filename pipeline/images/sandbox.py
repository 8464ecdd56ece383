"""Limits for a worker process that decodes untrusted bytes: memory, time, and no output.

Only worker processes are limited, and a deadline kills them.
"""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

PROCESS_STATUS = Path("/proc/self/status")  # Linux; elsewhere memory is not limited
MAX_SECONDS = 20  # for one image
BASE_MEGABYTES = 500  # for a worker, besides what the largest allowed image needs
BYTES_PER_PIXEL = 24  # of the largest allowed image, with transparency: several copies

_confined = ContextVar("confined", default=False)  # whether a deadline may kill this process


def memory_for(max_megapixels: float) -> int:
    """Bytes that a worker may allocate if images have at most this many pixels."""
    return int(BASE_MEGABYTES * 1e6 + max_megapixels * 1e6 * BYTES_PER_PIXEL)


@contextmanager
def confined(home: int, memory: int) -> Iterator[None]:
    """Limit and silence this process, unless it is the main process, which has the id `home`.

    Args:
        memory: Bytes that the block may allocate, besides those allocated before.

    Raises:
        MemoryError: the block needs more.
    """
    if os.getpid() == home:
        yield
        return
    token = _confined.set(True)
    try:
        with _limited_memory(memory), _silent_stderr():
            yield
    except OSError as error:
        if error.errno == errno.ENOMEM:  # for example from a library that could not be loaded
            raise MemoryError(str(error)) from error
        raise
    finally:
        _confined.reset(token)


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
    """Kill this process, if it is confined, when the block takes longer, even in C code."""
    if not _confined.get() or not hasattr(signal, "setitimer"):  # not on Windows
        yield
        return
    # The default action kills at once; a Python handler would wait until C code returns.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
