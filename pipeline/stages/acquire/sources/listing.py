"""The listing of a folder or archive, in Arrow columns: a million files take some 100 MB."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.core.errors import PipelineError

ROWS = 4096  # that are Python objects at a time
MAX_FILES = 30_000_000  # in a folder or archive; listing them takes some 3 GB of memory

Reader = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class SourceFile:
    name: str
    """Relative to the folder or archive, with forward slashes."""
    size: int
    """In bytes, unpacked."""
    location: bytes
    """Where `reader` finds it."""
    reader: Reader
    """Reads the files of a listing, by their location."""

    def read(self) -> bytes:
        return self.reader(self.location)

    def path(self, folder: Path) -> Path:
        """Where a file of a folder is on disk."""
        return folder / os.fsdecode(self.location)


class RowTable:
    """Rows that are appended one at a time, as Arrow columns."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._batches: list[pa.RecordBatch] = []
        self._pending: list[tuple[object, ...]] = []

    def append(self, *row: object) -> None:
        self._pending.append(row)
        if len(self._pending) == ROWS:
            self._flush()

    def table(self) -> pa.Table:
        """All rows."""
        self._flush()
        return pa.Table.from_batches(self._batches, self._schema)

    def _flush(self) -> None:
        if self._pending:
            types = self._schema.types
            columns = zip(zip(*self._pending, strict=True), types, strict=True)
            arrays = [pa.array(values, kind) for values, kind in columns]
            self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
            self._pending = []


def check_count(count: int, path: Path) -> None:
    """Refuse a folder or archive with too many files.

    Raises:
        PipelineError: there are more than MAX_FILES.
    """
    if count > MAX_FILES:
        raise PipelineError(
            f"{path} has more than {MAX_FILES:,} files, the most of a data set: make several of it"
        )


def iterate(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table."""
    for batch in table.to_batches(max_chunksize=ROWS):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


class FileTable:
    """The files of one folder or archive, in their order."""

    _SCHEMA = pa.schema({"name": pa.large_string(), "size": pa.int64(), "location": pa.binary()})

    def __init__(self) -> None:
        self._rows = RowTable(self._SCHEMA)
        self._reader: Reader
        self._count = 0
        self.folder: Path | None = None
        """That has the files on disk; None for those of archives."""
        self.prefixes: Mapping[str, str] = {}
        """First folder of a name -> what stands for it in `paths`, for files of several archives:
        the split that the archive is named after, with a slash, or nothing."""
        self.wrappers: Mapping[str, str] = {}
        """The same folder -> the one below it that `paths` leave out."""
        self.uses_encoding = False
        """Whether names are in the encoding that dataset.toml gives."""

    def __len__(self) -> int:
        return self._count

    def append(self, file: SourceFile) -> None:
        """Add a file, whose reader is that of all others."""
        self._rows.append(file.name, file.size, file.location)
        self._reader = file.reader
        self._count += 1

    def __iter__(self) -> Iterator[SourceFile]:
        for name, size, location in iterate(self._rows.table()):
            yield SourceFile(name, size, location, self._reader)

    def names(self) -> Iterator[str]:
        """The names of all files."""
        names = self._rows.table().select(["name"])
        return (name for (name,) in iterate(names))

    def paths(self) -> Iterator[str]:
        """The names of all files, by which layouts go: without the names of several archives."""
        if not self.prefixes:
            return self.names()
        return map(self._path_of, self.names())

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of all files: name, size or location."""
        return self._rows.table().column(name)

    def _path_of(self, name: str) -> str:
        archive, _, rest = name.partition("/")
        if wrapper := self.wrappers.get(archive):
            rest = rest.removeprefix(f"{wrapper}/")
        return self.prefixes[archive] + rest


def to_text(path: os.PathLike[str] | str) -> str:
    """Return a path with forward slashes and U+FFFD in the place of bytes that are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace").replace(os.sep, "/")
