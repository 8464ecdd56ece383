"""The tables of stage split.

split.csv has the split of each image that is used, sorted by id; leaks.csv the images that are not
used because a copy is prescribed to a later split.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.core import columns, csv_cells, csv_table
from pipeline.core.csv_table import CsvRows


@dataclass(frozen=True, slots=True)
class SplitRow:
    """An image that is used."""

    id: str
    """sha256 of the source's bytes, hex."""
    label: str
    split: str
    """train, val or test."""
    group: str
    """The name of the images that share its split; empty where it is on its own."""


class SplitTable(CsvRows[SplitRow]):
    """split.csv, sorted by id, with its columns."""

    def __init__(self, table: pa.Table) -> None:
        super().__init__(SplitRow, table)
        self.ids, self.labels, self.splits, self.groups = table.columns

    def where(self, mask: pa.ChunkedArray) -> "SplitTable":
        """The rows for which a boolean column is true."""
        return SplitTable(self._table.filter(mask))


def read_split(path: Path) -> SplitTable:
    """Read split.csv, in its order.

    Raises:
        PipelineError: the file is damaged, or of another version.
    """
    return SplitTable(csv_table.read_columns(path, SplitRow))


def read_groups(path: Path) -> npt.NDArray[np.int64]:
    """A number for the group of each row, in the order of their names; alone, an id is a name.

    Raises:
        PipelineError: as `read_split`.
    """
    table = read_split(path)
    codes, names = columns.encode(columns.fill_empty(table.groups, table.ids))
    numbers: npt.NDArray[np.int64] = columns.ranks(names)[codes].astype(np.int64)
    del table, names
    columns.release_memory()
    return numbers


def scan_split(path: Path) -> Iterator[SplitRow]:
    """Like `read_split`, row by row, in constant memory."""
    return csv_table.scan(path, SplitRow)


def scan_readable_splits(path: Path) -> Iterator[tuple[str, str]]:
    """The id and split of each row of a split.csv that may be damaged, missing or another file.

    Rows after the damage are left out. A row that is cut off may have any split, or no id.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for cells in csv_cells.DictReader(file):
                yield cells["id"] or "", cells["split"] or ""
    except (FileNotFoundError, KeyError, UnicodeDecodeError, csv.Error):
        return


def write_split(path: Path, rows: Iterable[SplitRow]) -> None:
    """Write split.csv; the rows must be sorted by id."""
    csv_table.write(path, SplitRow, _check_order(rows))


def _check_order(rows: Iterable[SplitRow]) -> Iterator[SplitRow]:
    last = ""
    for row in rows:
        assert row.id >= last, "the rows of split.csv are not sorted by id"
        last = row.id
        yield row


@dataclass(frozen=True, slots=True)
class LeakRow:
    """An image that is not used, and the one in a later split that is used instead."""

    id: str
    """sha256 of the source's bytes, hex."""
    name: str
    label: str
    split: str
    """As the source prescribes: train, val or test."""
    kind: str
    """duplicate, near_duplicate or same_group."""
    stays_id: str
    """The image that stays."""
    stays_name: str
    stays_split: str


def read_leaks(path: Path) -> CsvRows[LeakRow]:
    """Read leaks.csv.

    Raises:
        PipelineError: the file is damaged, or of another version.
    """
    return csv_table.read(path, LeakRow)


def write_leaks(path: Path, rows: Iterable[LeakRow]) -> None:
    """Write leaks.csv."""
    csv_table.write(path, LeakRow, rows)
