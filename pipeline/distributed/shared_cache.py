"""A cache that several machines share: a folder, or an address such as s3://bucket/prefix.

The environment variable PIPELINE_CACHE names it, and not a param, as results do not depend on it.
Files in it appear whole and are never changed or removed.
"""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from pipeline.core import atomic
from pipeline.core.addresses import open_address, storage_errors_as_sentences
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import without_password

VARIABLE = "PIPELINE_CACHE"
MAX_READ_BYTES = 2**28  # read at a time; one larger file is read by itself
MAX_READ_FILES = 256
THREADS = 16  # that wait for a folder on another machine


class SharedCache(Protocol):
    """Files by folder and name. Each call asks for many files at the same time."""

    def sizes(self, folder: str) -> dict[str, int]:
        """The bytes of each file of a folder, by name; nothing if there is no such folder."""

    def read(self, folder: str, sizes: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        """Yield the files with these names, in batches bounded by their `sizes`."""

    def write(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Write files; one that is there already is replaced by the same."""


def open_shared_cache(address: str | None = None) -> SharedCache | None:
    """The cache at an address, by default that of PIPELINE_CACHE; None if it is empty.

    Raises:
        PipelineError: it is an address of a kind that needs another package, or of no known kind.
    """
    address = (os.environ.get(VARIABLE, "") if address is None else address).strip()
    if not address:
        return None
    if "://" in address:
        return AddressCache(address)
    return FolderCache(Path(address).expanduser())


class FolderCache:
    """In a folder, which may be on NFS or Lustre: nothing is locked, and files are renamed."""

    def __init__(self, root: Path) -> None:
        """
        Raises:
            PipelineError: `root` is not the absolute path of an existing folder.
        """
        if not root.is_absolute():
            raise PipelineError(
                f"{VARIABLE}={without_password(str(root))} is a relative path, and stages run in "
                "several folders: give the absolute path"
            )
        if not root.is_dir():  # a share that is not mounted must not be taken for an empty one
            raise PipelineError(
                f"{VARIABLE}={root} is not a folder: create it, or mount what it is on"
            )
        self._root = root

    def sizes(self, folder: str) -> dict[str, int]:
        path = self._root / folder
        if not path.is_dir():
            return {}
        with os.scandir(path) as entries:
            return {
                entry.name: entry.stat().st_size
                for entry in entries
                if entry.is_file() and not entry.name.startswith(".")
            }

    def read(self, folder: str, sizes: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        path = self._root / folder
        with ThreadPoolExecutor(THREADS) as pool:
            for names in _batches(sizes):
                contents = pool.map(lambda name: (path / name).read_bytes(), names)
                yield from zip(names, contents, strict=True)

    def write(self, folder: str, files: Mapping[str, bytes]) -> None:
        path = self._root / folder

        def write_one(name: str) -> None:
            with atomic.replacing(path / name) as staged:
                staged.write_bytes(files[name])

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(write_one, files))


class AddressCache:
    """At an address that fsspec knows."""

    def __init__(self, address: str) -> None:
        """
        Raises:
            PipelineError: the package for this kind of address is not installed, or there is none.
        """
        self._files, self._root = open_address(address, VARIABLE)
        self._name = f"{VARIABLE}={without_password(address)}"

    def sizes(self, folder: str) -> dict[str, int]:
        with storage_errors_as_sentences(f"{self._name} cannot be read"):
            self._files.invalidate_cache()
            try:
                entries = self._files.ls(f"{self._root}/{folder}", detail=True)
            except FileNotFoundError:
                return {}
        return {
            entry["name"].rpartition("/")[2]: entry["size"]
            for entry in entries
            if entry["type"] == "file"
        }

    def read(self, folder: str, sizes: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        for names in _batches(sizes):
            paths = {f"{self._root}/{folder}/{name}": name for name in names}
            with storage_errors_as_sentences(f"{self._name} cannot be read"):
                contents = self._files.cat(list(paths))
            yield from ((paths[path], content) for path, content in contents.items())

    def write(self, folder: str, files: Mapping[str, bytes]) -> None:
        with storage_errors_as_sentences(f"{self._name} cannot be written"):
            self._files.pipe({f"{self._root}/{folder}/{name}": files[name] for name in files})


def _batches(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Names of files that are read at the same time."""
    batch: list[str] = []
    total = 0
    for name, size in sizes.items():
        if batch and (total + size > MAX_READ_BYTES or len(batch) == MAX_READ_FILES):
            yield batch
            batch, total = [], 0
        batch.append(name)
        total += size
    if batch:
        yield batch
