"""A copy of a folder or file in object storage, on this machine; only what changed is fetched."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from pipeline.core import atomic, project
from pipeline.core.addresses import open_address, storage_errors_as_sentences
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.progress import bar
from pipeline.core.terminal import print_line, printable, warn, without_password
from pipeline.stages.acquire.sources.class_folders import is_junk

SETTING = "path"  # in dataset.toml
MAX_NAME_BYTES = 255  # of a file or folder
BATCH = 128  # files that are fetched at the same time
STAMPS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created")


@dataclass(frozen=True)
class _Entry:
    """A file as the storage lists it."""

    path: str
    size: int
    stamp: str
    """Another one if it has other contents."""


def mirror(address: str, max_bytes: float) -> Path:
    """Copy what is at an address into .cache; return the path of the folder or file.

    Raises:
        PipelineError: there is nothing, it cannot be read, or it has more than `max_bytes`.
    """
    folder = project.cache() / "acquire" / "mirrors" / _digest(address)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):  # one process fetches, others wait
        return _Mirror(address, folder).update(max_bytes)


class _Mirror:
    def __init__(self, address: str, folder: Path) -> None:
        self._address = without_password(address)
        self._files, self._root = open_address(address, SETTING)
        self._copy = folder / "files"
        self._table = folder / "fetched.jsonl"  # a name and its stamp per line

    def update(self, max_bytes: float) -> Path:
        with self._errors_as_sentences():
            self._files.invalidate_cache()
            is_file = self._files.isfile(self._root)
            listed = (
                {self._root: self._files.info(self._root)}
                if is_file
                else self._files.find(self._root, detail=True)
            )
        base = self._root.rpartition("/")[0] if is_file else self._root
        entries = self._select(base, listed)
        total = sum(entry.size for entry in entries.values())
        if total > max_bytes:
            raise PipelineError(
                f"{self._address} has {total / 1e9:.1f} GB, past acquire.max_gigabytes="
                f"{max_bytes / 1e9:g}: raise it, or use a part"
            )
        self._remove_others(entries)
        fetched = {name: stamp for name, stamp in self._read_table().items() if name in entries}
        missing = {name: e for name, e in entries.items() if not self._is_here(name, e, fetched)}
        self._fetch(missing, fetched)
        return self._copy / next(iter(entries)) if is_file else self._copy

    def _select(self, base: str, listed: Mapping[str, Mapping[str, Any]]) -> dict[str, _Entry]:
        """The files below `base` that can have their names here."""
        named = {path.removeprefix(f"{base}/"): info for path, info in listed.items()}
        files = {
            name: info
            for name, info in named.items()
            if not name.endswith("/") and not is_junk(name)
        }
        parents = {str(parent) for name in files for parent in PurePosixPath(name).parents}
        usable = {name: info for name, info in files.items() if _is_usable(name, parents)}
        if unusable := sorted(files.keys() - usable.keys()):
            warn(
                f"left out {len(unusable)} of {plural(len(files), 'file')} at {self._address}, "
                f"because no file can be called {printable(unusable[0])!r} here"
            )
        if not usable:
            raise PipelineError(f"{self._address} has no files: correct {SETTING} in dataset.toml")
        return {
            name: _Entry(f"{base}/{name}", int(info["size"] or 0), _stamp(info))
            for name, info in sorted(usable.items())
        }

    def _is_here(self, name: str, entry: _Entry, fetched: Mapping[str, str]) -> bool:
        path = self._copy / name
        is_same = fetched.get(name) == entry.stamp
        return is_same and path.is_file() and path.stat().st_size == entry.size

    def _fetch(self, missing: Mapping[str, _Entry], fetched: Mapping[str, str]) -> None:
        names = list(missing)
        if not names:
            return
        size = sum(entry.size for entry in missing.values())
        files = f"{plural(len(names), 'file')} ({size / 1e6:,.1f} MB)"
        print_line(f"acquire: fetching {files} of {self._address}")
        atomic.write_text(self._table, _format_stamps(fetched))
        with (
            self._table.open("a", encoding="utf-8") as table,  # whole, it would grow per batch
            bar("acquire: fetch", size, "B", scale=True) as progress,
        ):
            for start in range(0, len(names), BATCH):
                batch = {name: missing[name] for name in names[start : start + BATCH]}
                self._fetch_batch(batch)
                table.write(_format_stamps({name: entry.stamp for name, entry in batch.items()}))
                table.flush()
                progress.update(sum(entry.size for entry in batch.values()))

    def _fetch_batch(self, batch: Mapping[str, _Entry]) -> None:
        targets = [self._copy / name for name in batch]
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
        with self._errors_as_sentences():
            self._files.get([entry.path for entry in batch.values()], list(map(str, targets)))
        for target, entry in zip(targets, batch.values(), strict=True):
            if target.stat().st_size != entry.size:
                raise PipelineError(
                    f"{entry.path} has {target.stat().st_size} bytes, but was listed with "
                    f"{entry.size}: it has changed, so run this again"
                )

    def _remove_others(self, entries: Mapping[str, _Entry]) -> None:
        """Remove files that are not listed, and empty folders, whose names files may have now."""
        for path in sorted(self._copy.rglob("*"), reverse=True):  # files before their folders
            if path.is_dir():
                with suppress(OSError):  # it is not empty
                    path.rmdir()
            elif path.relative_to(self._copy).as_posix() not in entries:
                path.unlink()

    def _read_table(self) -> dict[str, str]:
        try:
            lines = self._table.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, UnicodeDecodeError):
            return {}
        stamps: dict[str, str] = {}
        for line in lines:
            with suppress(ValueError):  # a kill may cut a line off: that file is fetched again
                name, stamp = json.loads(line)
                stamps[name] = stamp
        return stamps

    def _errors_as_sentences(self) -> Any:
        return storage_errors_as_sentences(f"{self._address} cannot be read")


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def _format_stamps(stamps: Mapping[str, str]) -> str:
    return "".join(f"{json.dumps([name, stamp])}\n" for name, stamp in stamps.items())


def _stamp(info: Mapping[str, Any]) -> str:
    facts = [str(info[name]) for name in STAMPS if info.get(name)]
    return f"{facts[0] if facts else ''} {info['size']}"


def _is_usable(name: str, parents: set[str]) -> bool:
    """Whether a file can have this name below a folder, beside all others."""
    parts = name.split("/")
    return name not in parents and all(
        part not in {"", ".", ".."} and "\0" not in part and len(part.encode()) <= MAX_NAME_BYTES
        for part in parts
    )
