"""Errors of a process that gets too little memory, as one sentence with the limit that it has."""

import errno
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# In errors that are no MemoryError: of the loader, of threads, of C++, torch and OpenCV.
TEXTS = (
    "failed to map segment from shared object",
    "cannot allocate memory",
    "can't start new thread",
    "bad_alloc",
    "DefaultCPUAllocator",
    "Insufficient memory",
)
LIMITS = {"RLIMIT_AS": "ulimit -v", "RLIMIT_DATA": "ulimit -d"}
NEEDED = {"`ulimit -v`": 8e9, "`ulimit -d`": 2e9}  # bytes, by stages that use a network
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container
MARGIN = 2**28  # bytes; a library's threads need some


def explain(error: BaseException) -> str | None:
    """A sentence if an error says that memory is short; None for other errors."""
    text = str(error).lower()
    is_short = (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or any(part.lower() in text for part in TEXTS)
    )
    return describe() if is_short else None


def describe() -> str:
    """Say that memory is short, and which limit this process has."""
    limits = [f"{name} allows {limit / 1e9:.1f} GB" for name, limit in _limits()]
    if limits:
        return f"this process has too little memory: {' and '.join(limits)}: raise it, or unset it"
    return (
        "this process has too little memory: end other programs, lower images.size or the batch "
        "sizes of params.yaml, or use a larger machine"
    )


def describe_low_limit() -> str | None:
    """Say that a limit is lower than stages need; libraries may crash at it without a word."""
    for name, limit in _limits():
        if limit < (needed := NEEDED.get(name, 0)):
            return (
                f"{name} allows {limit / 1e9:.1f} GB, and stages that use a network need "
                f"{needed / 1e9:.0f} GB: raise it if one crashes"
            )
    return None


def is_near_limit() -> bool:
    """Whether this process has nearly as much address space as it may have."""
    limit = dict(_limits()).get(f"`{LIMITS['RLIMIT_AS']}`")
    with suppress(OSError):
        size = int(Path("/proc/self/statm").read_text().split()[0]) * _page_size()
        return limit is not None and size + MARGIN > limit
    return False


def _page_size() -> int:
    import resource  # not on Windows

    return resource.getpagesize()


def _limits() -> Iterator[tuple[str, int]]:
    """The limits that are set: the command, or the file of the container, and the bytes."""
    if sys.platform != "win32":
        import resource

        for name, command in LIMITS.items():
            limit = resource.getrlimit(getattr(resource, name))[0]
            if limit != resource.RLIM_INFINITY:
                yield f"`{command}`", limit
    with suppress(OSError, ValueError):  # "max"
        yield "the container", int(CGROUP_LIMIT.read_text())
