"""Write files whole or not at all. Files are replaced, never written in place.

DVC's cache is hard-linked into the workspace, so writing into a file would change the cache.
Contents reach the disk before their name does: after a power cut, a file under its final name has
neither length zero nor zeroed pages.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pipeline.core import csv_cells, staging

SYNCS = 8  # at the same time
NO_SYNC = {errno.EINVAL, errno.ENOTSUP}  # of file systems that cannot sync, or not folders
NO_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # full or read-only disks


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path to create; on success it replaces `path`, and is on disk.

    Create a file or a folder there. On failure it is removed and `path` is left as it was.

    Args:
        durable: Whether a power cut must not damage it. A file in a folder that is being created
            in this way reaches the disk with the folder.

    Raises:
        OSError: it cannot be written; the error names `path`, not the temporary one.
    """
    path = path.absolute()
    with _errors_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        staging.remove_beside(path)
        with _staged(path, durable) as staged:
            yield staged


@contextmanager
def _staged(path: Path, durable: bool) -> Iterator[Path]:
    durable = durable and not staging.is_staged(path)
    with staging.make_folder(path) as folder:
        staged = folder / path.name
        yield staged
        assert staged.exists(), f"nothing was created to replace {path}"
        if durable:
            sync(staged)
        _swap(staged, path)
        if durable:
            sync_name(path)


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Name `path` in errors of the disk: those of writing name no file, those of copying two."""
    try:
        yield
    except OSError as error:
        name = str(error.filename or "")
        is_nameless = error.errno in NO_WRITING and (not name or error.filename2 is not None)
        if error.errno is None or not (is_nameless or f".{path.name}{staging.MARK}" in name):
            raise
        reason = os.strerror(error.errno) if is_nameless else error.strerror
        raise OSError(error.errno, reason, str(path)) from error


def _swap(new: Path, old: Path) -> None:
    if new.is_file() and old.is_dir() and not old.is_symlink():  # it may hold somebody's work
        raise IsADirectoryError(errno.EISDIR, "there is a folder of this name", str(old))
    folders = new.is_dir() or (old.is_dir() and not old.is_symlink())
    if folders and os.path.lexists(old):
        old.rename(new.with_name(".replaced"))  # a rename replaces only a file with a file
    new.replace(old)


def sync(path: Path) -> None:
    """Wait until a file, or a folder with everything in it, is on disk."""
    if path.is_file():
        _fsync(path)
        return
    entries = [entry for entry in path.rglob("*") if not entry.is_symlink()]
    with ThreadPoolExecutor(SYNCS) as pool:  # at the same time, they take a third of the time
        list(pool.map(_fsync, filter(Path.is_file, entries)))
    for folder in (*filter(Path.is_dir, entries), path):
        _fsync(folder)


def sync_name(path: Path) -> None:
    """Wait until the name of `path`, after a rename, is on disk."""
    _fsync(path.parent)


def _fsync(path: Path) -> None:
    if os.name == "nt":  # Windows opens no folders, and syncs only what is open for writing
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, without translating line ends."""
    with replacing(path) as staged:
        staged.write_bytes(text.encode())


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a small table as CSV, readable by git, people and `dvc plots`.

    Texts are escaped for spreadsheets (`csv_cells`), numbers are not.
    """
    with replacing(path) as staged, staged.open("w", encoding="utf-8", newline="") as file:
        csv_cells.write_rows(file, [header])
        csv_cells.write_rows(file, rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table that `write_csv` wrote; cells that a row lacks are empty."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv_cells.DictReader(file, restval=""))


def modified_time(path: Path) -> float:
    """When `path` was last changed, in seconds since 1970; 0 where it no longer exists."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
