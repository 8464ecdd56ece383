"""List the files of a folder on disk."""

import errno
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from pipeline.stages.acquire.raw_image import SkippedItem, SkipReason
from pipeline.stages.acquire.sources.listing import Reader, SourceFile, to_text

NOT_A_FILE = SkipReason.NOT_A_FILE
MOUNTS = Path("/proc/self/mountinfo")  # of Linux
# File systems whose files are views of the system: some never end, and reading some waits for ever.
PSEUDO = frozenset(
    [
        *("binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs"),
        *("efivarfs", "fusectl", "mqueue", "nsfs", "proc", "pstore", "rpc_pipefs", "securityfs"),
        *("selinuxfs", "sysfs", "tracefs"),
    ]
)


def list_files(folder: Path, strict: bool) -> Iterator[SourceFile | SkippedItem]:
    """Yield the regular files below a folder, sorted by name within each folder.

    Links are followed, as some people link their images, but every folder is read only once.

    Args:
        strict: Raise OSError for an unreadable subfolder, instead of yielding it as skipped; and
            yield a link to a folder that was read, which may stand for a class, as skipped.
    """

    def read(location: bytes) -> bytes:
        return (folder / os.fsdecode(location)).read_bytes()

    pseudo = _pseudo_devices()
    visited: set[tuple[int, int]] = set()
    errors: list[OSError] = []
    onerror = _raise if strict else errors.append
    for directory, subfolders, names in os.walk(folder, onerror=onerror, followlinks=True):
        status = Path(directory).stat()
        if (status.st_dev, status.st_ino) in visited or status.st_dev in pseudo:
            subfolders.clear()
            if strict:
                yield SkippedItem(to_text(Path(directory).relative_to(folder)), NOT_A_FILE)
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders.sort()
        for name in sorted(names):
            yield _list_file(Path(directory, name), folder, read, pseudo)
    for error in errors:
        yield SkippedItem(to_text(Path(error.filename).relative_to(folder)), SkipReason.UNREADABLE)


def _list_file(
    path: Path, folder: Path, read: Reader, pseudo: Collection[int]
) -> SourceFile | SkippedItem:
    relative = path.relative_to(folder)
    name = to_text(relative)
    try:
        status = path.stat()
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ELOOP}:
            raise
        return SkippedItem(name, NOT_A_FILE)  # a dangling or circular link
    # Reading a pipe, a device or a file of /proc might never end.
    if not stat.S_ISREG(status.st_mode) or status.st_dev in pseudo:
        return SkippedItem(name, NOT_A_FILE)
    return SourceFile(name, status.st_size, os.fsencode(relative), read)


def _pseudo_devices() -> frozenset[int]:
    """The devices of mounted pseudo file systems."""
    try:
        lines = MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    # "36 35 98:0 /root /mnt options [optional fields...] - type source options"
    mounts = [(line.split(" ")[2], line.rpartition(" - ")[2].split(" ")[0]) for line in lines]
    numbers = [number.split(":") for number, kind in mounts if kind in PSEUDO]
    return frozenset(os.makedev(int(major), int(minor)) for major, minor in numbers)


def _raise(error: OSError) -> None:
    raise error
