"""Labels in tables beside the images, such as Kaggle's train.csv."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import columns
from pipeline.core.columns import Codes
from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.class_names import to_nfc
from pipeline.stages.acquire.layouts.file_index import AMBIGUOUS, FileIndex
from pipeline.stages.acquire.layouts.labels import FileFacts
from pipeline.stages.acquire.layouts.table_columns import (
    FILES,
    NamedColumns,
    find_columns,
    find_label_column,
    find_options,
    require_column,
)
from pipeline.stages.acquire.layouts.table_files import TableFile
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.listing import FileTable, iterate

OPTIONS = ("split", "group", "owner", "licence", "sha256")
EXAMPLES = 3
CONFLICT, NONE = -2, -1  # in the place of a row


@dataclass(frozen=True)
class LabelTable:
    """A table with labels, and the files that its rows name."""

    table: TableFile
    label: str
    file: str
    positions: Codes
    """Of the file of each row; -1 where it is missing."""
    split: str | None
    """That the table itself is named after."""

    @property
    def origin(self) -> str:
        return f"the column {self.label!r} of {self.table.name} (files by its column {self.file!r})"


class TableLabels:
    """The labels of files, from one table or several."""

    def __init__(self, tables: Sequence[LabelTable], splits: Mapping[str, str], count: int) -> None:
        """Read the tables.

        Args:
            splits: Name of a split -> split.
            count: Number of files.

        Raises:
            PipelineError: a split is unknown.
        """
        parts = [_read_rows(table, splits) for table in tables]
        self._rows = pa.concat_tables(parts)
        positions = np.concatenate([table.positions for table in tables])
        codes, self._labels = columns.encode(self._rows.column("label"))
        self._row_of_file = _rows_of_files(positions, codes, count)
        self.missing = _missing_names(self._rows, positions)
        self.origin = " and ".join(table.origin for table in tables[:EXAMPLES])
        self.label_column = tables[0].label
        self._names = {table.table.name for table in tables}
        self.notes: tuple[str, ...] = ()

    def classes(self) -> set[str]:
        """All labels of files that are there."""
        used = self._row_of_file[self._row_of_file >= 0]
        labels = columns.encode(self._rows.column("label").take(pa.array(used)))[1]
        return set(labels.to_pylist()) - {""}

    def facts(self, files: FileTable) -> Iterator[FileFacts | SkipReason | None]:
        """What is known of each file, in their order, or why it is left out; None for a table."""
        for name, facts in zip(files.names(), self._all_facts(len(files)), strict=True):
            yield None if name in self._names else facts

    def _all_facts(self, count: int) -> Iterator[FileFacts | SkipReason]:
        for start in range(0, count, columns.CHUNK):
            rows = self._row_of_file[start : start + columns.CHUNK]
            facts = iterate(self._rows.take(pa.array(np.maximum(rows, 0))))
            for row, (_, label, *options) in zip(rows.tolist(), facts, strict=True):
                if row == CONFLICT:
                    yield SkipReason.TWO_CLASSES
                elif row == NONE or not label:
                    yield SkipReason.UNLABELLED
                else:
                    yield FileFacts(label, *(option or None for option in options))


def read_table(
    table: TableFile, index: FileIndex, named: NamedColumns, splits: Mapping[str, str], where: str
) -> LabelTable | None:
    """Find the labels and files of a table; None where it lacks them, and dataset.toml names none.

    Raises:
        PipelineError: a column that dataset.toml names is missing, or matches no file or several.
        AmbiguousLayoutError: two columns may have the labels.
    """
    split = split_of_name(table.name, splits)
    if named.file:
        candidates = [require_column(table, named.file, "file_column")]
    else:
        candidates = [name for name in find_columns(table.columns, FILES) if name != named.label]
    matches = {name: _find_files(table, name, index, splits, split) for name in candidates}
    file = max(matches, key=lambda name: (matches[name] >= 0).sum(), default=None)
    if file is None or not (matches[file] >= 0).any():
        if named.file or named.label:
            raise PipelineError(_no_files(table, file, where))
        return None
    label = find_label_column(table, named.label, where) or _only_other(table, file)
    if label is None:
        return None
    if (ambiguous := np.flatnonzero(matches[file] == AMBIGUOUS)).size:
        value = table.read([file]).column(0)[int(ambiguous[0])].as_py()
        raise PipelineError(
            f"{where}: {table.name} names {value!r}, and several files have this name: write their "
            "paths into it"
        )
    return LabelTable(table, label, file, matches[file], split)


def split_of_name(name: str, splits: Mapping[str, str]) -> str | None:
    """The split that a table is named after: train.csv, data/test-00000-of-00001.parquet."""
    stem = name.rpartition("/")[2].partition(".")[0]
    folders = name.split("/")[:-1]
    words = [*reversed(re.split(r"[^a-z]+", stem.lower())), *reversed(folders)]
    return next((splits[to_nfc(word).lower()] for word in words if word.lower() in splits), None)


def _find_files(
    table: TableFile,
    column: str,
    index: FileIndex,
    splits: Mapping[str, str],
    split: str | None,
) -> Codes:
    values = table.read([column]).column(0)
    folder = table.name[: table.name.rfind("/") + 1]
    positions = index.find(values, folder)
    if split and (positions == AMBIGUOUS).any():  # train/1.jpg and test/1.jpg
        own = index.select(lambda name: split_of_name(f"{name}/x", splits) == split)
        return own.find(values, folder)
    return positions


def _no_files(table: TableFile, file: str | None, where: str) -> str:
    columns_text = ", ".join(table.columns[:20])
    if file is None:
        return (
            f"{where}: no column of {table.name} is known to name files (it has {columns_text}): "
            "say which with file_column"
        )
    values = [value for value in table.read([file]).column(0).slice(0, 100).to_pylist() if value]
    return (
        f"{where}: the column {file!r} of {table.name} names none of its files, for instance "
        f"{', '.join(map(repr, values[:EXAMPLES]))}: say with file_column which one does (it has "
        f"{columns_text})"
    )


def _only_other(table: TableFile, file: str) -> str | None:
    """The label of a table with only one more column than its files and known facts."""
    known = {file, *find_options(table.columns).values()}
    others = [name for name in table.columns if name not in known and name.strip()]
    return others[0] if len(others) == 1 else None


def _read_rows(table: LabelTable, splits: Mapping[str, str]) -> pa.Table:
    """The columns file, label and options of a table."""
    options = {
        fact: name
        for fact, name in find_options(table.table.columns).items()
        if fact in OPTIONS and name not in {table.label, table.file}
    }
    names = list(dict.fromkeys([table.file, table.label, *options.values()]))
    rows = table.table.read(names)
    empty = pa.chunked_array([columns.texts([table.split or ""] * len(rows))])
    cells = {"file": rows.column(table.file), "label": _strip(rows.column(table.label))}
    for fact in OPTIONS:
        if fact in options:
            cells[fact] = rows.column(options[fact])
        else:
            cells[fact] = empty if fact == "split" else _blank(len(rows))
    if "split" in options:
        cells["split"] = to_splits(cells["split"], splits, table.table.name, options["split"])
    return pa.table(cells)


def _strip(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.utf8_trim_whitespace(column)


def _blank(count: int) -> pa.ChunkedArray:
    return pa.chunked_array([columns.texts([""] * count)])


def to_splits(
    column: pa.ChunkedArray, splits: Mapping[str, str], table: str, name: str
) -> pa.ChunkedArray:
    """The splits that a column names, by any of their names; "" stays.

    Raises:
        PipelineError: a name is unknown.
    """
    codes, distinct = columns.encode(column)
    names = distinct.to_pylist() if len(distinct) < columns.CHUNK else []
    known = {"": ""} | dict(splits)
    unknown = [text for text in names if to_nfc(text).strip().lower() not in known]
    if unknown or len(distinct) != len(names):
        example = repr(unknown[0]) if unknown else f"{len(distinct)} texts"
        raise PipelineError(
            f"{table}: the column {name!r} has {example}, which is "
            'no split: set splits in dataset.toml, such as splits = {fold1 = "train"}, or rename '
            "the column"
        )
    values = columns.texts([known[to_nfc(text).strip().lower()] for text in names])
    return pa.chunked_array([values.take(pa.array(codes))]) if len(codes) else column


def _rows_of_files(positions: Codes, codes: Codes, count: int) -> Codes:
    """The first row of each file; CONFLICT where its rows have several labels."""
    rows = np.flatnonzero(positions >= 0)
    result = np.full(count, NONE, np.int32)
    result[positions[rows[::-1]]] = rows[::-1]  # the first row is written last
    least = np.full(count, np.iinfo(np.int32).max, np.int32)
    most = np.full(count, -1, np.int32)
    np.minimum.at(least, positions[rows], codes[rows])
    np.maximum.at(most, positions[rows], codes[rows])
    result[(most >= 0) & (least != most)] = CONFLICT
    return result


def _missing_names(rows: pa.Table, positions: Codes) -> pa.ChunkedArray:
    return rows.column("file").filter(columns.booleans(positions < 0))
