"""Which processes of this machine have runs open: each locks a file of its own while it lives.

A killed process cannot close its runs, but the system releases its lock, and the next start closes
the runs that have the file's name as a tag. The file exists before the run, so every open run has
one.
"""

import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, lock_descriptor

from pipeline.core import project

MAX_AGE = 30 * 24 * 3600  # seconds that a store which does not answer is tried again
PROCESS = "env.process"  # the tag that has a lock's name


class ProcessLock:
    """The lock of a process that has runs open, until it is released or the process ends."""

    def __init__(self, address: str) -> None:
        """`address` is the store's."""
        self.name = secrets.token_hex(16)
        self._path = _folder() / self.name
        content = json.dumps(address).encode()
        self._lock = FileLock(
            self._path,
            thread_local=False,
            preserve_lock_file=True,
            mode=0o600,  # the address may contain a password
            # Under the lock: `abandoned_locks` skips a file that is locked or still empty.
            on_acquired=lambda descriptor: _write(descriptor, content),
        )
        self._lock.acquire()

    @property
    def tags(self) -> dict[str, str]:
        """The tags that connect a run to this lock."""
        return {PROCESS: self.name}

    def remove(self) -> None:
        """Release the lock and delete its file: the runs are closed."""
        self._lock.release()
        self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """Release the lock and leave its file: the next start closes the runs."""
        self._lock.release()


def _write(descriptor: int, content: bytes) -> None:
    os.write(descriptor, content)


@dataclass(frozen=True)
class AbandonedLock:
    """The file of a process that ended without closing its runs."""

    name: str
    address: str
    """Of the store that has the runs."""
    is_old: bool
    """Whether the store has had long enough to answer."""

    def remove(self) -> None:
        (_folder() / self.name).unlink(missing_ok=True)


def abandoned_locks() -> Iterator[AbandonedLock]:
    """The lock files of this machine's processes that ended without closing their runs."""
    for path in sorted(_folder().glob("[!.]*")):
        with suppress(FileNotFoundError, ValueError), path.open("r+") as file:
            if lock_descriptor(file.fileno(), blocking=False):
                is_old = time.time() - path.stat().st_mtime > MAX_AGE
                yield AbandonedLock(path.name, str(json.loads(file.read())), is_old)


def is_alive(name: str) -> bool:
    """Whether the process whose lock has this name is alive, on this machine."""
    # The name comes from a server: check that it is not a path.
    if not re.fullmatch("[0-9a-f]{32}", name):
        return False
    with suppress(FileNotFoundError), (_folder() / name).open("r+") as file:
        return not lock_descriptor(file.fileno(), blocking=False)
    return False


def _folder() -> Path:
    return project.cache() / "runs"
