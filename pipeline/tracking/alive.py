"""Which runs this machine has open: a file for each, locked for as long as its process lives.

A process that is killed cannot say so. The system unlocks its file, and the next start sees that.
"""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline import project


class Marker:
    """The mark of an open run, until it is removed or the process ends."""

    def __init__(self, run_id: str, address: str) -> None:
        """`address` is the store's."""
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        self._path = _path(run_id)
        descriptor, staged = tempfile.mkstemp(dir=folder, prefix=".")
        self._file = os.fdopen(descriptor, "w")
        fcntl.flock(self._file, fcntl.LOCK_EX)  # before it has its name: nobody sees it unlocked
        self._file.write(json.dumps([run_id, address]))
        self._file.flush()
        Path(staged).replace(self._path)

    def remove(self) -> None:
        """The run has ended well, or was closed."""
        with suppress(FileNotFoundError):  # another may have gone on in this run
            if self._path.stat().st_ino == os.fstat(self._file.fileno()).st_ino:
                self._path.unlink()
        self._file.close()

    def let_go(self) -> None:
        """The run could not be closed: the next start may."""
        self._file.close()


@dataclass(frozen=True)
class Abandoned:
    """A run whose process is gone."""

    run_id: str
    address: str
    """Of its store."""
    path: Path

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)


def abandoned() -> Iterator[Abandoned]:
    """The runs that were open on this machine when their process ended."""
    for path in sorted(_folder().glob("[!.]*")):
        with suppress(FileNotFoundError, ValueError), path.open("r+") as file:
            if _free(file):
                run_id, address = json.loads(file.read())
                yield Abandoned(run_id, address, path)


def held(run_id: str) -> bool:
    """Whether a process of this machine has the run open."""
    with suppress(FileNotFoundError), _path(run_id).open("r+") as file:
        return not _free(file)
    return False


def _free(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _path(run_id: str) -> Path:
    """Of its mark. What a server calls a run is not trusted to be a file's name."""
    return _folder() / hashlib.sha256(run_id.encode()).hexdigest()[:32]


def _folder() -> Path:
    return project.cache() / "runs"
