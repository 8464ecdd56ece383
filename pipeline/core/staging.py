"""Folders in which outputs are made before they get their names, and those of killed processes.

Outputs of the project are made in .cache/staging, so that a killed stage leaves nothing in reports/
or data/; an output elsewhere, or on another disk, is made beside its place. For each folder its
process locks a file in .cache/staging that names the folder. The system releases the lock when the
process ends, and the next start removes the folder.
"""

import functools
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from pipeline.core import project

MARK = ".staging-"  # in the name of a folder, in front of its token
NAME = re.compile(rf"\..+{re.escape(MARK)}\w+")
LOCK_SUFFIX = ".lock"
MAX_AGE = 24 * 3600  # seconds; of folders that no lock says anything about
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_descriptors: set[int] = set()  # of locked files


@contextmanager
def make_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder, from which files can be renamed to `path`; it is removed at the end."""
    token = os.urandom(8).hex()
    is_nested = is_staged(path)  # the outer folder is removed with everything in it
    place = path.parent if is_nested else _find_place(path)
    folder = place / f".{path.name}{MARK}{token}"
    with nullcontext() if is_nested else _lock(folder):
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def is_staged(path: Path) -> bool:
    """Whether a path is in a folder of `make_folder`."""
    return any(map(NAME.fullmatch, path.parts))


def remove_abandoned() -> None:
    """Remove the folders that killed processes of this project left."""
    for folder, lock in _find_abandoned():
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            lock.unlink()
    for folder in _home().glob(f".*{MARK}*"):
        _remove_without_lock(folder)


def remove_beside(path: Path) -> None:
    """Remove what killed processes left beside `path`, after a day where no lock says more.

    The first call of a process also removes what they left elsewhere.
    """
    if not is_staged(path):
        _remove_abandoned_once(_home())
        for folder in _siblings(path):
            _remove_without_lock(folder)


@functools.cache
def _remove_abandoned_once(home: Path) -> None:
    if home.is_dir():
        remove_abandoned()


def _siblings(path: Path) -> Iterator[Path]:
    prefix = f".{path.name}{MARK}"
    with suppress(FileNotFoundError), os.scandir(path.parent) as entries:
        yield from (Path(entry.path) for entry in entries if entry.name.startswith(prefix))


def _remove_without_lock(folder: Path) -> None:
    with suppress(OSError):
        is_old = time.time() - folder.stat().st_mtime > MAX_AGE
        if is_old and not _lock_path(folder).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _home() -> Path:
    return project.cache() / "staging"


def _lock_path(folder: Path) -> Path:
    return _home() / f"{folder.name.rpartition(MARK)[2]}{LOCK_SUFFIX}"


def _find_place(path: Path) -> Path:
    """The folder for staging folders: in .cache if `path` is in the project, on the same disk."""
    home = _home()
    is_inside = path.parent.resolve().is_relative_to(project.root().resolve())
    # In a folder that is read-only, making the staging folder fails, and not the rename at the end.
    if is_inside and os.access(path.parent, os.W_OK | os.X_OK):
        with suppress(OSError):
            home.mkdir(parents=True, exist_ok=True)
            if _find_mount(home) == _find_mount(path.parent):
                return home
    return path.parent


def _find_mount(folder: Path) -> tuple[int, str]:
    """The file system of a folder and, on Linux, its mount: a rename crosses neither."""
    device = folder.stat().st_dev
    if not hasattr(os, "O_PATH"):
        return device, ""
    descriptor = os.open(folder, os.O_PATH)
    try:
        facts = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    except OSError:  # without /proc
        return device, ""
    finally:
        os.close(descriptor)
    return device, next((line for line in facts.splitlines() if line.startswith("mnt_id:")), "")


# ---- locks ----


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lock a file that names the folder; without one where .cache is read-only or has no locks."""
    path, descriptor = _lock_path(folder), -1
    with suppress(OSError, ImportError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        _descriptors.add(descriptor)
        _write_lock(descriptor, folder)
    try:
        yield
    finally:
        if descriptor in _descriptors:  # not in a fork
            _descriptors.discard(descriptor)
            os.close(descriptor)
            with suppress(OSError):
                path.unlink()


def _try_lock(descriptor: int) -> bool:
    """Lock a file; whether no other process has it locked."""
    try:
        import fcntl
    except ImportError:  # on Windows
        from filelock import lock_descriptor  # its import takes longer than small stages

        return lock_descriptor(descriptor, blocking=False)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_lock(descriptor: int, folder: Path) -> None:
    # Under the lock: a file that is locked or still empty is not an abandoned one.
    if _try_lock(descriptor):
        os.write(descriptor, json.dumps([os.fsdecode(folder), *_machine()]).encode())


def _close_in_fork() -> None:
    """Close what a fork inherited, or it would hold the locks after its parent was killed."""
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_fork)


def _machine() -> list[str]:
    """The name of this machine and, on Linux, its last start, which containers share."""
    with suppress(OSError):
        return [platform.node(), BOOT_ID.read_text().strip()]
    return [platform.node(), platform.node()]


def _find_abandoned() -> list[tuple[Path, Path]]:
    """The folders whose processes have ended, each with its lock."""
    locks = sorted(_home().glob(f"*{LOCK_SUFFIX}"))
    abandoned = ((_read_abandoned(lock), lock) for lock in locks)
    return [(folder, lock) for folder, lock in abandoned if folder is not None]


def _read_abandoned(lock: Path) -> Path | None:
    """The folder that a lock names, if its process has ended."""
    with suppress(OSError, ValueError, TypeError), lock.open("r+", encoding="utf-8") as file:
        if not _try_lock(file.fileno()):
            return None
        # Its text may be anything: only a folder with the name of a staging folder is removed.
        is_old = time.time() - lock.stat().st_mtime > MAX_AGE
        folder, *machine = json.loads(file.read())
        # A file system that machines share may have locks that the others do not see.
        is_of_here = not set(machine).isdisjoint(_machine())
        is_staging = NAME.fullmatch(Path(folder).name) and _lock_path(Path(folder)) == lock
        if is_staging and (is_of_here or is_old):
            return Path(folder)
    return None
