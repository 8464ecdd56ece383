"""CSV files with a dataclass for a row: a column per field, every cell a string."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import islice
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import pyarrow as pa

from pipeline.core import atomic, columns, csv_cells
from pipeline.core.errors import REPAIR, PipelineError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")


class CsvRows(Generic[Row]):
    """The rows of a table, stored as Arrow columns: a row is an object only while it is used."""

    def __init__(self, row_class: type[Row], table: pa.Table) -> None:
        self._row_class = row_class
        self._table = table

    def column(self, name: str) -> pa.ChunkedArray:
        """The texts of a field."""
        return self._table.column(name)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, row: int) -> Row:
        return self._row_class(*(column[row].as_py() for column in self._table.columns))

    def __iter__(self) -> Iterator[Row]:
        cells = map(columns.iterate, self._table.columns)
        return map(self._row_class, *cells)


def read(path: Path, row_class: type[Row]) -> CsvRows[Row]:
    """Read the rows of a table; columns may stand in any order, and unknown ones are ignored.

    Raises:
        PipelineError: a column or a cell is missing, or the file is not CSV in UTF-8.
    """
    return CsvRows(row_class, read_columns(path, row_class))


def read_columns(path: Path, row_class: type[Row]) -> pa.Table:
    """Like `read`, as Arrow columns in the order of the fields."""
    names = [field.name for field in fields(row_class)]
    return _to_columns(names, _lines(path, names))


def collect(row_class: type[Row], rows: Iterable[Row]) -> CsvRows[Row]:
    """Store rows as columns. All fields are texts."""
    names = [field.name for field in fields(row_class)]
    return CsvRows(row_class, _to_columns(names, map(attrgetter(*names), rows)))


def _to_columns(names: Sequence[str], lines: Iterator[Sequence[str]]) -> pa.Table:
    chunks: list[list[pa.Array]] = []
    while chunk := list(islice(lines, columns.CHUNK)):
        chunks.append([columns.texts(cells) for cells in zip(*chunk, strict=True)])
    arrays = [pa.chunked_array(parts, pa.string()) for parts in zip(*chunks, strict=True)]
    empty = [pa.chunked_array([], pa.string()) for _ in names]
    return pa.Table.from_arrays(arrays or empty, names)


def scan(path: Path, row_class: type[Row]) -> Iterator[Row]:
    """Like `read`, row by row, in constant memory."""
    names = [field.name for field in fields(row_class)]
    return (row_class(*cells) for cells in _lines(path, names))


def _lines(path: Path, names: Sequence[str]) -> Iterator[Sequence[str]]:
    """The cells of each row, in the order of `names`."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        try:
            header = next(lines, [])
            if missing := [name for name in names if name not in header]:
                raise _damaged(path, f"it has no column {missing[0]!r}")
            cells = itemgetter(*map(header.index, names))
            for line in filter(None, lines):
                yield tuple(map(csv_cells.unescape, cells(line)))
        except IndexError as error:
            raise _damaged(path, f"line {lines.line_num} is cut off") from error
        except UnicodeDecodeError as error:
            raise _damaged(path, "it is not UTF-8") from error
        except csv.Error as error:
            raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> PipelineError:
    return PipelineError(f"{path} is damaged, or of another version ({reason}): {REPAIR}")


def write(path: Path, row_class: type[Row], rows: Iterable[Row]) -> None:
    """Replace the table at `path` by `rows`."""
    names = [field.name for field in fields(row_class)]
    atomic.write_csv(path, names, map(attrgetter(*names), rows))
