"""Tables of any format as columns of texts: CSV, TSV, JSON lines, Parquet.

Tables are as untrusted as images: sizes of cells, rows and headers are bounded.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import csv_cells
from pipeline.core.columns import texts
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import one_line
from pipeline.stages.acquire.layouts.parquet_file import ParquetFile
from pipeline.stages.acquire.layouts.table_limits import MAX_CELL, MAX_COLUMNS

MAX_LINE = 2**20  # bytes, of JSON
ROWS = 4096  # that are Python objects at a time
SCANNED_LINES = 100  # of JSON, for the names of the columns
SAMPLE_BYTES = 16_384  # for the separator


class TableFile(Protocol):
    """A table whose columns can be read as texts."""

    name: str
    """Its path in the source."""
    columns: tuple[str, ...]
    image_columns: frozenset[str]
    """Columns with the bytes of images."""

    def read(self, names: Sequence[str]) -> pa.Table:
        """These columns as texts; "" where a cell is empty.

        Raises:
            PipelineError: the table is damaged, or a cell too large.
        """


class CsvFile:
    """CSV in UTF-8, separated by commas, semicolons, tabs or bars."""

    image_columns: frozenset[str] = frozenset()

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        if b"\0" in data[:SAMPLE_BYTES] or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise PipelineError(f"{name} is not CSV in UTF-8: save it as such")
        self._data = data
        self._separator = _find_separator(data[:SAMPLE_BYTES])
        header = next(self._rows(), [])
        if not header:
            raise PipelineError(f"{name} is empty")
        self.columns = _check_columns(name, header)

    def read(self, names: Sequence[str]) -> pa.Table:
        """These columns as texts."""
        positions = [self.columns.index(name) for name in names]
        rows = self._rows()
        next(rows)
        batches = []
        while chunk := list(islice(rows, ROWS)):
            cells = [[csv_cells.unescape(row[position]) for row in chunk] for position in positions]
            batches.append(pa.RecordBatch.from_arrays(list(map(texts, cells)), list(names)))
        return _table(batches, names)

    def _rows(self) -> Iterator[list[str]]:
        """The header, then the rows, each with as many cells."""
        file = io.TextIOWrapper(io.BytesIO(self._data), "utf-8-sig", newline="")
        reader = csv.reader(file, delimiter=self._separator, strict=True)
        width = 0
        try:
            for row in reader:
                width = width or len(row)
                if row and len(row) != width:
                    raise PipelineError(
                        f"{self.name}, line {reader.line_num}: it has {len(row)} cells, but the "
                        f"first line {width}"
                    )
                if row:
                    yield row
        except (csv.Error, UnicodeDecodeError) as error:
            line = f", line {reader.line_num}" if reader.line_num else ""
            raise PipelineError(
                f"{self.name}{line} is not CSV in UTF-8 ({one_line(error)})"
            ) from error


class JsonLinesFile:
    """An object a line."""

    image_columns: frozenset[str] = frozenset()

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self._data = data
        names: dict[str, None] = {}
        for record in islice(self._records(), SCANNED_LINES):
            names |= dict.fromkeys(record)
        self.columns = _check_columns(name, list(names))

    def read(self, names: Sequence[str]) -> pa.Table:
        """These columns as texts."""
        records = self._records()
        batches = []
        while chunk := list(islice(records, ROWS)):
            cells = [[_to_text(record.get(name)) for record in chunk] for name in names]
            batches.append(pa.RecordBatch.from_arrays(list(map(texts, cells)), list(names)))
        return _table(batches, names)

    def _records(self) -> Iterator[dict[str, Any]]:
        file = io.BytesIO(self._data)
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise PipelineError(f"{self.name}, line {number}: longer than {MAX_LINE} bytes")
            if line.isspace():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise PipelineError(
                    f"{self.name}, line {number} is not JSON ({one_line(error)})"
                ) from error
            if not isinstance(record, dict):
                raise PipelineError(f"{self.name}, line {number} is not a JSON object")
            yield record


def open_text_table(name: str, data: bytes) -> TableFile:
    """Open a table by the suffix of its name.

    Raises:
        PipelineError: it is damaged, or of another format.
    """
    match PurePosixPath(name).suffix.lower():
        case ".csv" | ".tsv":
            return CsvFile(name, data)
        case ".jsonl" | ".ndjson":
            return JsonLinesFile(name, data)
    raise PipelineError(f"{name} is not a table: CSV, TSV, JSON lines and Parquet are read")


def open_table(path: Path, name: str) -> TableFile:
    """Open a table on disk; messages call it `name`."""
    if path.suffix.lower() == ".parquet":
        return ParquetFile(name, path)
    return open_text_table(name, path.read_bytes())


def read_columns(path: Path) -> tuple[str, ...]:
    """The names of the columns of a table on disk; of a CSV file only the first line is read.

    Raises:
        PipelineError: the table is damaged.
    """
    if path.suffix.lower() not in {".csv", ".tsv"}:
        return open_table(path, str(path)).columns
    with path.open("rb") as file:
        return CsvFile(str(path), file.readline(MAX_LINE)).columns


def _find_separator(sample: bytes) -> str:
    first = sample.split(b"\n", 1)[0].decode("utf-8", "replace")
    return max(",;\t|", key=first.count)


def _check_columns(name: str, columns: list[str]) -> tuple[str, ...]:
    if len(columns) > MAX_COLUMNS:
        raise PipelineError(f"{name} has more than {MAX_COLUMNS} columns")
    if repeated := [column for column in set(columns) if columns.count(column) > 1]:
        raise PipelineError(f"{name} has the column {min(repeated)!r} twice")
    if not columns:
        raise PipelineError(f"{name} is empty")
    return tuple(columns)


def _to_text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _table(batches: list[pa.RecordBatch], names: Sequence[str]) -> pa.Table:
    schema = pa.schema([(name, pa.string()) for name in names])
    table = pa.Table.from_batches(batches, schema)
    for name in names:
        longest = pc.max(pc.binary_length(table.column(name))).as_py()
        if longest and longest > MAX_CELL:
            raise PipelineError(f"a cell of the column {name!r} has {longest} bytes")
    return table
