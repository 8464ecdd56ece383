"""Which processes of this machine have runs open: each holds a locked file while it lives.

A process that is killed cannot say so. The system unlocks its file, and the next start sees that.
The file is there before the run is, and both have the same name, so no run is ever without.
"""

import fcntl
import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.core import project

OLD = 30 * 24 * 3600  # seconds
PROCESS = "env.process"  # the tag that has a mark's name


class ProcessLock:
    """The mark of a process that has runs open, until it is removed or the process ends."""

    def __init__(self, address: str) -> None:
        """`address` is the store's."""
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        self.name = secrets.token_hex(16)
        descriptor, staged = tempfile.mkstemp(dir=folder, prefix=".")
        self._file = os.fdopen(descriptor, "w")
        fcntl.flock(self._file, fcntl.LOCK_EX)  # before it has its name: nobody sees it unlocked
        self._file.write(json.dumps(address))
        self._file.flush()
        Path(staged).replace(folder / self.name)

    @property
    def tags(self) -> dict[str, str]:
        """What the runs of this process have."""
        return {PROCESS: self.name}

    def remove(self) -> None:
        """The runs have ended well, or were closed."""
        (_folder() / self.name).unlink(missing_ok=True)
        self._file.close()

    def let_go(self) -> None:
        """The runs could not be closed: the next start may."""
        self._file.close()


@dataclass(frozen=True)
class Abandoned:
    """The mark of a process that is gone."""

    name: str
    address: str
    """Of the store that it had runs in."""
    old: bool
    """Whether that store will hardly answer any more."""

    def forget(self) -> None:
        (_folder() / self.name).unlink(missing_ok=True)


def abandoned() -> Iterator[Abandoned]:
    """The marks of this machine's processes that ended without closing their runs."""
    for path in sorted(_folder().glob("[!.]*")):
        with suppress(FileNotFoundError, ValueError), path.open("r+") as file:
            if _free(file):
                old = time.time() - path.stat().st_mtime > OLD
                yield Abandoned(path.name, str(json.loads(file.read())), old)


def is_alive(name: str) -> bool:
    """Whether the process of a mark lives, on this machine."""
    # What a server says is not trusted to be a file's name.
    if not re.fullmatch("[0-9a-f]{32}", name):
        return False
    with suppress(FileNotFoundError), (_folder() / name).open("r+") as file:
        return not _free(file)
    return False


def _free(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _folder() -> Path:
    return project.cache() / "runs"
