"""List the files of a folder on disk."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pipeline.stages.acquire.raw_image import SkippedItem, SkipReason
from pipeline.stages.acquire.sources.listing import Reader, SourceFile, to_text

NOT_A_FILE = SkipReason.NOT_A_FILE


def list_files(folder: Path, strict: bool) -> Iterator[SourceFile | SkippedItem]:
    """Yield the regular files below a folder, sorted by name within each folder.

    Links are followed, as some people link their images, but every folder is read only once.

    Args:
        strict: Raise OSError for an unreadable subfolder, instead of yielding it as skipped; and
            yield a link to a folder that was read, which may stand for a class, as skipped.
    """

    def read(location: bytes) -> bytes:
        return (folder / os.fsdecode(location)).read_bytes()

    visited: set[tuple[int, int]] = set()
    errors: list[OSError] = []
    onerror = _raise if strict else errors.append
    for directory, subfolders, names in os.walk(folder, onerror=onerror, followlinks=True):
        status = Path(directory).stat()
        if (status.st_dev, status.st_ino) in visited:
            subfolders.clear()
            if strict:
                yield SkippedItem(to_text(Path(directory).relative_to(folder)), NOT_A_FILE)
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders.sort()
        for name in sorted(names):
            yield _list_file(Path(directory, name), folder, read)
    for error in errors:
        yield SkippedItem(to_text(Path(error.filename).relative_to(folder)), SkipReason.UNREADABLE)


def _list_file(path: Path, folder: Path, read: Reader) -> SourceFile | SkippedItem:
    relative = path.relative_to(folder)
    name = to_text(relative)
    try:
        status = path.stat()
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ELOOP}:
            raise
        return SkippedItem(name, NOT_A_FILE)  # a dangling or circular link
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device might never end
        return SkippedItem(name, NOT_A_FILE)
    return SourceFile(name, status.st_size, os.fsencode(relative), read)


def _raise(error: OSError) -> None:
    raise error
