"""Tables of any format as columns of texts: CSV, TSV, JSON lines, Parquet.

Tables are as untrusted as images: sizes of cells, rows and headers are bounded.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import csv_cells
from pipeline.core.columns import texts
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.terminal import one_line
from pipeline.stages.acquire.layouts.file_names import IMAGE_SUFFIX
from pipeline.stages.acquire.layouts.list_file import ListFile
from pipeline.stages.acquire.layouts.parquet_file import ParquetFile
from pipeline.stages.acquire.layouts.table_limits import MAX_CELL, MAX_COLUMNS

MAX_LINE = 2**20  # bytes, of JSON
ROWS = 4096  # that are Python objects at a time
MAX_DEPTH = 8  # of objects in objects
SCANNED_LINES = 100  # of JSON, for the names of the columns
SAMPLE_BYTES = 16_384  # for the separator
UTF16_STARTS = (b"\xff\xfe", b"\xfe\xff")
ENCODING_ADVICE = (
    "save it as such, or say with encoding which it has, such as windows-1252 of Excel in western "
    "Europe"
)
SEPARATOR_LINE = re.compile(rb'(?:\xef\xbb\xbf)?"?sep=([,;\t|])"?\r?\n', re.IGNORECASE)  # Excel's


class TableFile(Protocol):
    """A table whose columns can be read as texts."""

    name: str
    """Its path in the source."""
    columns: tuple[str, ...]
    nested: frozenset[str]
    """Columns that cannot be read as texts, such as those with several values in a cell."""
    blob_columns: frozenset[str]
    """Columns with bytes, such as images."""
    has_header: bool
    """Whether it names its columns; else they are called by their numbers."""

    def read(self, names: Sequence[str]) -> pa.Table:
        """These columns as texts; "" where a cell is empty.

        Raises:
            PipelineError: the table is damaged, or a cell too large.
        """


class CsvFile:
    """CSV in UTF-8, separated by commas, semicolons, tabs or bars."""

    nested: frozenset[str] = frozenset()
    blob_columns: frozenset[str] = frozenset()

    def __init__(self, name: str, data: bytes, has_header: bool | None = None) -> None:
        """Find the separator and the columns.

        Args:
            has_header: Whether the first line names the columns; None: it does, unless it has the
                name of an image.
        """
        self.name = name
        if b"\0" in data[:SAMPLE_BYTES]:
            raise PipelineError(f"{name} is not CSV in UTF-8: {ENCODING_ADVICE}")
        self._data = data
        separator_line = SEPARATOR_LINE.match(data)
        self._has_separator_line = separator_line is not None
        self._separator = (
            separator_line[1].decode() if separator_line else _find_separator(data[:SAMPLE_BYTES])
        )
        self.is_plain = separator_line is None and self._separator == ","
        """Whether any reader of CSV understands it: with commas, and no line that says so."""
        header = [cell.strip() for cell in next(self._rows(), [])]
        if not any(header):
            raise PipelineError(f"{name} is empty")
        if has_header is None:
            has_header = not any(map(IMAGE_SUFFIX.search, header))
        self.has_header = has_header
        numbers = [str(number) for number in range(1, len(header) + 1)]
        self.columns = _check_columns(name, header if has_header else numbers)

    def without_header(self) -> "CsvFile":
        """The same table, its first line being no names of columns."""
        return CsvFile(self.name, self._data, has_header=False)

    def read(self, names: Sequence[str]) -> pa.Table:
        """These columns as texts."""
        positions = [self.columns.index(name) for name in names]
        rows = self._rows()
        if self.has_header:
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
        header: list[str] = []
        try:
            if self._has_separator_line:
                next(reader, None)
            for cells in reader:
                header = header or cells
                row = _fit(cells, header)
                if row and len(row) != len(header):
                    raise PipelineError(
                        f"{self.name}, line {reader.line_num}: it has {plural(len(row), 'cell')}, "
                        f"but the first line {len(header)}"
                    )
                if row:
                    yield row
        except UnicodeDecodeError as error:
            raise PipelineError(
                f"{self.name} is not CSV in UTF-8 ({one_line(error)}): {ENCODING_ADVICE}"
            ) from error
        except csv.Error as error:
            line = f", line {reader.line_num}" if reader.line_num else ""
            raise PipelineError(
                f"{self.name}{line} is not CSV in UTF-8 ({one_line(error)})"
            ) from error


class JsonLinesFile:
    """An object a line; what is in an object of it is a column too: `label.name`."""

    blob_columns: frozenset[str] = frozenset()
    has_header = True

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self._data = data
        nested: dict[str, bool] = {}
        for record in islice(self._records(), SCANNED_LINES):
            for column, value in record.items():
                nested[column] = nested.get(column, False) or isinstance(value, list)
        self.columns = _check_columns(name, list(nested))
        self.nested = frozenset(column for column in nested if nested[column])

    def read(self, names: Sequence[str]) -> pa.Table:
        """These columns as texts."""
        records = self._records()
        batches = []
        while chunk := list(islice(records, ROWS)):
            cells = [[self._to_text(name, record.get(name)) for record in chunk] for name in names]
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
            yield dict(_flatten(record))

    def _to_text(self, column: str, value: object) -> str:
        if value is None:
            return ""
        if isinstance(value, list):
            raise PipelineError(f"{self.name}: the column {column!r} has neither texts nor numbers")
        return value if isinstance(value, str) else json.dumps(value)


def open_text_table(name: str, data: bytes, encoding: str | None = None) -> TableFile:
    """Open a table by the suffix of its name.

    Args:
        encoding: None for UTF-8, or UTF-16 that starts with its mark.

    Raises:
        PipelineError: it is damaged, or of another format or encoding.
    """
    data = _to_utf8(name, data, encoding)
    match PurePosixPath(name).suffix.lower():
        case ".csv" | ".tsv":
            return CsvFile(name, data)
        case ".jsonl" | ".ndjson":
            return JsonLinesFile(name, data)
        case ".txt":
            return ListFile(name, data)
    raise PipelineError(f"{name} is not a table: CSV, TSV, JSON lines and Parquet are read")


def _to_utf8(name: str, data: bytes, encoding: str | None) -> bytes:
    encoding = encoding or ("utf-16" if data.startswith(UTF16_STARTS) else None)
    if encoding is None:
        return data
    try:
        return data.decode(encoding).encode()
    except UnicodeError as error:
        raise PipelineError(f"{name} is not text in {encoding} ({one_line(error)})") from error


def open_table(path: Path, name: str, encoding: str | None = None) -> TableFile:
    """Open a table on disk; messages call it `name`."""
    if path.suffix.lower() == ".parquet":
        return ParquetFile(name, path)
    return open_text_table(name, path.read_bytes(), encoding)


def read_columns(path: Path, encoding: str | None = None) -> tuple[str, ...]:
    """The names of the columns of a table on disk; of CSV in UTF-8 only the first line is read.

    Raises:
        PipelineError: the table is damaged.
    """
    is_utf8 = encoding is None and not is_utf16(path)
    if not is_utf8 or path.suffix.lower() not in {".csv", ".tsv"}:
        return open_table(path, str(path), encoding).columns
    return open_header(path).columns


def open_header(path: Path) -> CsvFile:
    """A CSV or TSV file in UTF-8, of which only the first line is read."""
    with path.open("rb") as file:
        data = file.readline(MAX_LINE)
        if SEPARATOR_LINE.match(data):
            data += file.readline(MAX_LINE)
    return CsvFile(str(path), data)


def is_utf16(path: Path) -> bool:
    """Whether a file starts with the mark of UTF-16."""
    with path.open("rb") as file:
        return file.read(2) in UTF16_STARTS


def _find_separator(sample: bytes) -> str:
    first = sample.split(b"\n", 1)[0].decode("utf-8", "replace")
    return max(",;\t|", key=first.count)


def _fit(row: list[str], header: list[str]) -> list[str]:
    """A row without surplus separators at its end, or with those that only the header has."""
    width = len(header)
    if len(row) > width and not any(map(str.strip, row[width:])):
        return row[:width]
    if 0 < len(row) < width and not any(map(str.strip, header[len(row) :])):
        return row + [""] * (width - len(row))
    return row


def _check_columns(name: str, columns: list[str]) -> tuple[str, ...]:
    if len(columns) > MAX_COLUMNS:
        raise PipelineError(f"{name} has more than {MAX_COLUMNS} columns")
    if repeated := [name for name in set(columns) if name and columns.count(name) > 1]:
        raise PipelineError(f"{name} has the column {min(repeated)!r} twice")
    if not columns:
        raise PipelineError(f"{name} is empty")
    return tuple(columns)


def _flatten(record: dict[str, Any], above: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The values of an object and of the objects in it, by their paths; null if too deep."""
    for key, value in record.items():
        if not isinstance(value, dict):
            yield above + key, value
        elif depth < MAX_DEPTH:
            yield from _flatten(value, f"{above}{key}.", depth + 1)


def _table(batches: list[pa.RecordBatch], names: Sequence[str]) -> pa.Table:
    schema = pa.schema([(name, pa.string()) for name in names])
    table = pa.Table.from_batches(batches, schema)
    for name in names:
        longest = pc.max(pc.binary_length(table.column(name))).as_py()
        if longest and longest > MAX_CELL:
            raise PipelineError(f"a cell of the column {name!r} has {longest} bytes")
    return table
