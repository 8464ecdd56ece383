"""Outputs appear whole or not at all, and are replaced, never written in place.

DVC's cache is hard-linked into the workspace: writing into a linked file would change the cache.
"""

import csv
import errno
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

STAGING = ".staging-"
ABANDONED_SECONDS = 24 * 3600  # a staging folder this old belongs to a process that was killed


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to create; it takes the place of `path` on success.

    The sibling does not exist yet: make it a file or a folder. On failure it is removed, and
    whatever stood at `path` stays.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    # Beside its destination, because a rename does not cross file systems.
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}{STAGING}", dir=path.parent))
    try:
        yield staging / path.name
        _swap(staging / path.name, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _swap(new: Path, old: Path) -> None:
    assert new.exists(), f"nothing was made to take the place of {old}"
    if new.is_file() and old.is_dir() and not old.is_symlink():  # somebody's work may be in it
        raise IsADirectoryError(errno.EISDIR, "there is a folder of this name", str(old))
    folders = new.is_dir() or (old.is_dir() and not old.is_symlink())
    if folders and os.path.lexists(old):
        old.rename(new.with_name(".replaced"))  # a rename alone replaces a file with a file
    new.replace(old)


def _remove_abandoned(path: Path) -> None:
    for staging in path.parent.glob(f".{glob.escape(path.name)}{STAGING}*"):
        with suppress(FileNotFoundError):
            if time.time() - staging.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(staging, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, with its line ends as they are."""
    with replacing(path) as staged:
        staged.write_bytes(text.encode())


class _Lines:
    """Ends lines with a line feed. (csv quotes a carriage return only where lines end in one.)"""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.removesuffix("\r\n") + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a small table that git, people and `dvc plots` can read."""
    with replacing(path) as staged, staged.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(_Lines(file))
        writer.writerow(header)
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table that `write_csv` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def written(path: Path) -> float:
    """When `path` was last changed, in seconds; 0 where another process has just removed it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
