"""The objects in DVC's cache: each is named by the md5 of its bytes."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import dvc_lock, progress
from pipeline.core.dvc_cache import read_listing

PREFIX, REST = re.compile(r"[0-9a-f]{2}"), re.compile(r"[0-9a-f]{30}(\.dir)?")
LISTING = ".dir"
EMPTY = "d41d8cd98f00b204e9800998ecf8427e"  # md5 of no bytes
THREADS = min(8, os.cpu_count() or 1)  # md5 releases the GIL
BATCH = 256  # objects per round of the threads, so that Ctrl-C ends soon


@dataclass(frozen=True)
class CacheObject:
    path: Path
    name: str
    """The md5 of its bytes in hex; that of the listing of a folder ends with .dir."""
    size: int
    """In bytes."""


@dataclass(frozen=True)
class Damage:
    object: CacheObject
    problem: str
    """As the end of a sentence."""
    is_permitted: bool = True
    """False if this user may not read it: its bytes may be as they should."""


def list_objects(folder: Path) -> Iterator[CacheObject]:
    """All objects in a folder. A file that DVC is writing has another name, and is left out."""
    for parent in _scan(folder):
        if PREFIX.fullmatch(parent.name) and parent.is_dir():
            for entry in _scan(parent):
                if REST.fullmatch(entry.name):
                    yield from _stat(entry, parent.name + entry.name)


def _scan(folder: "Path | os.DirEntry[str]") -> list["os.DirEntry[str]"]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _stat(entry: "os.DirEntry[str]", name: str) -> Iterator[CacheObject]:
    try:
        yield CacheObject(Path(entry.path), name, entry.stat().st_size)
    except FileNotFoundError:  # removed since it was listed, or a link to nothing
        return


def find_damage(folder: Path) -> Iterator[Damage]:
    """Damaged objects: first those that are empty, at once, then those with other bytes."""
    objects = list(list_objects(folder))
    empty = [item for item in objects if item.size == 0 and item.name != EMPTY]
    yield from (Damage(item, "is empty") for item in empty)
    yield from _read_all([item for item in objects if item.size or item.name == EMPTY])


def _read_all(objects: list[CacheObject]) -> Iterator[Damage]:
    total = sum(item.size for item in objects)
    with progress.bar("cache", total, "B", scale=True) as bar, ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(objects), BATCH):
            batch = objects[start : start + BATCH]
            for item, damage in zip(batch, pool.map(_read, batch), strict=True):
                bar.update(item.size)
                yield from damage


def _read(item: CacheObject) -> list[Damage]:
    """The damage of an object, if any."""
    try:
        if dvc_lock.digest(item.path) != item.name.removesuffix(LISTING):
            return [Damage(item, "has other bytes than its name says")]
        if item.name.endswith(LISTING):
            read_listing(item.path)
    except FileNotFoundError:  # removed meanwhile
        return []
    except OSError as error:  # such as an I/O error of the disk
        is_permitted = not isinstance(error, PermissionError)
        return [Damage(item, f"cannot be read ({error.strerror})", is_permitted)]
    except ValueError:
        return [Damage(item, "is not the listing of a folder")]
    return []
