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
from pipeline.core.unicode import to_nfc
from pipeline.stages.acquire.layouts import one_hot
from pipeline.stages.acquire.layouts.captions import describe_captions
from pipeline.stages.acquire.layouts.file_column import find_file_column
from pipeline.stages.acquire.layouts.file_index import AMBIGUOUS, MISSING, FileIndex
from pipeline.stages.acquire.layouts.file_names import is_image_name
from pipeline.stages.acquire.layouts.labels import (
    FileFacts,
    RepeatedNamesError,
    UnclearColumnError,
    UnusableTableError,
)
from pipeline.stages.acquire.layouts.missing_labels import blank_missing, describe_missing
from pipeline.stages.acquire.layouts.one_hot import OneHotTable
from pipeline.stages.acquire.layouts.parquet_file import ParquetFile
from pipeline.stages.acquire.layouts.row_choice import (
    CONFLICT,
    NONE,
    describe_several_splits,
    rank_splits,
    rows_of_files,
)
from pipeline.stages.acquire.layouts.table_columns import (
    NamedColumns,
    are_numbers,
    find_label_column,
    find_options,
    without_fractions,
)
from pipeline.stages.acquire.layouts.table_files import TableFile
from pipeline.stages.acquire.layouts.table_problems import no_files, no_labels
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.listing import FileTable, iterate
from pipeline.stages.acquire.sources.split_folders import format_splits

OPTIONS = ("split", "group", "owner", "licence", "sha256")
EXAMPLES = 3


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
    is_guess: bool = False
    """Whether the column of labels has no common name."""
    note: str = ""
    """How files were found that are spelled in another way."""

    @property
    def origin(self) -> str:
        label = f"the column {self.label!r} of {self.table.name}"
        if isinstance(self.table, OneHotTable):
            classes = ", ".join(self.table.classes[:EXAMPLES])
            label = f"the columns {classes}... of {self.table.name}, one of which is 1 in each row"
        return f"{label} (files by its column {self.file!r})"

    @property
    def deciding_key(self) -> tuple[str, str]:
        """The key of dataset.toml that decides for this table, and its value."""
        has_no_name = isinstance(self.table, OneHotTable) or not self.table.has_header
        return ("table", self.table.name) if has_no_name else ("label_column", self.label)


class TableLabels:
    """The labels of files, from one table or several."""

    def __init__(
        self,
        tables: Sequence[LabelTable],
        splits: Mapping[str, str],
        count: int,
        notes: Sequence[str] = (),
    ) -> None:
        """Read the tables.

        Args:
            splits: Name of a split -> split.
            count: Number of files.
            notes: What people should know of other tables.

        Raises:
            PipelineError: a split is unknown.
        """
        missing: list[str] = []
        parts = [_read_rows(table, splits, missing) for table in tables]
        self._rows = pa.concat_tables(parts)
        positions = np.concatenate([table.positions for table in tables])
        codes, self._labels = columns.encode(self._rows.column("label"))
        ranks = rank_splits(self._rows.column("split"))
        self._row_of_file = rows_of_files(positions, codes, ranks, count)
        self.missing = _missing_names(self._rows, positions)
        self.origin = " and ".join(table.origin for table in tables[:EXAMPLES])
        self.deciding_key = tables[0].deciding_key
        self.is_weak = all(
            table.is_guess and table.table.name.lower().endswith(".parquet") for table in tables
        )
        """Whether this is less likely than class folders: numbers of clusters, or of rows."""
        self.is_list = not any(table.table.has_header for table in tables)
        """Whether no column has a name, as in lists of files and labels."""
        self.has_texts = any(not isinstance(table.table, ParquetFile) for table in tables)
        """Whether a table is a text in some encoding."""
        self._is_one_hot = any(isinstance(table.table, OneHotTable) for table in tables)
        self._names = {table.table.name for table in tables}
        several = describe_several_splits(positions, ranks, count)
        self.notes = (*(table.note for table in tables if table.note), *several, *missing, *notes)

    def classes(self) -> set[str]:
        """All labels of files that are there."""
        used = self._row_of_file[self._row_of_file >= 0]
        labels = columns.encode(self._rows.column("label").take(pa.array(used)))[1]
        return set(labels.to_pylist()) - {""}

    def describe_captions(self) -> str | None:
        """Why the labels are captions, numbers or names of single images; None if they are not."""
        if self._is_one_hot:
            return None
        used = pa.array(self._row_of_file[self._row_of_file >= 0])
        return describe_captions(self._rows.column("label").take(used), self.origin)

    def facts(self, files: FileTable) -> Iterator[FileFacts | SkipReason | None]:
        """What is known of each file, in their order, or why it is left out; None for a table."""
        for name, facts in zip(files.names(), self._all_facts(len(files)), strict=True):
            if facts is SkipReason.UNLABELLED and not is_image_name(name):
                yield None if name in self._names else SkipReason.OTHER_KIND
            else:
                yield facts

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
) -> LabelTable:
    """Find the labels and files of a table.

    Raises:
        UnusableTableError: it has none, or several in a row, or lacks a column that dataset.toml
            names.
        RepeatedNamesError: several files have each name in it.
        PipelineError: several files have a name in it.
        AmbiguousLayoutError: two columns may have the labels.
    """
    split = split_of_name(table.name, splits)
    file, positions, note = find_file_column(table, index, named, splits, split)
    has_files = file is not None and (positions != MISSING).any()
    common = find_label_column(table, named.label, where) if has_files or named.label else None
    if file is None or not has_files:
        raise UnusableTableError(no_files(table, file, index))
    label = common or _only_other(table, file)
    if label is None and not table.has_header:
        label = _only_texts(table, file)
    if label is None and table.has_header and (classes := one_hot.find_classes(table, file)):
        table, label = OneHotTable(table, classes), one_hot.LABEL
    if label is None:
        raise UnusableTableError(no_labels(table, file))
    if (ambiguous := np.flatnonzero(positions == AMBIGUOUS)).size:
        value = table.read([file]).column(0)[int(ambiguous[0])].as_py()
        called = " and ".join(index.paths_called(value, 2))
        problem = f"{where}: {table.name} names {value!r}, and several files may be meant: {called}"
        if (positions >= 0).any():
            raise PipelineError(f"{problem}; write their paths into it")
        if common is None:
            raise UnusableTableError(
                f"{table.name} names {value!r}, and several files may be meant: {called}"
            )
        classes = columns.encode(_strip(table.read([label]).column(0)))[1]
        raise RepeatedNamesError(
            f"{problem}; write their paths into it, or say with pattern = '{{label}}/*' that the "
            "folders are the classes",
            frozenset(classes.slice(0, columns.CHUNK).to_pylist()),
        )
    return LabelTable(table, label, file, positions, split, common is None, note)


def split_of_name(name: str, splits: Mapping[str, str]) -> str | None:
    """The split that a table is named after: train.csv, data/test-00000-of-00001.parquet."""
    stem = name.rpartition("/")[2].partition(".")[0]
    folders = name.split("/")[:-1]
    words = [*reversed(re.split(r"[^a-z]+", stem.lower())), *reversed(folders)]
    return next((splits[to_nfc(word).lower()] for word in words if word.lower() in splits), None)


def have_same_labels(first: LabelTable, second: LabelTable) -> bool:
    """Whether two tables have the same labels for the files that both name."""
    labels: list[dict[int, str]] = []
    for table in (first, second):
        cells = _strip(table.table.read([table.label]).column(0))
        rows = zip(table.positions.tolist(), columns.iterate(cells), strict=True)
        labels.append({position: label for position, label in rows if position >= 0})
    return all(labels[0].get(position, label) == label for position, label in labels[1].items())


def _only_other(table: TableFile, file: str) -> str | None:
    """The label of a table with only one more column than its files and known facts."""
    fact_columns = {file, *table.blob_columns, *find_options(table.columns).values()}
    others = [name for name in table.columns if name not in fact_columns and name.strip()]
    return others[0] if len(others) == 1 and others[0] not in table.nested else None


def _only_texts(table: TableFile, file: str) -> str:
    """The only column besides that of the files that has texts, of a table without names.

    Raises:
        UnclearColumnError: there is none, or there are several.
    """
    others = [name for name in table.columns if name != file]
    cells = table.read(others)
    texts = [name for name in others if not are_numbers(cells.column(name))]
    if len(texts) != 1:
        raise UnclearColumnError(no_labels(table, file))
    return texts[0]


def _read_rows(table: LabelTable, splits: Mapping[str, str], notes: list[str]) -> pa.Table:
    """The columns file, label and options of a table; notes on labels that are missing."""
    options = {
        fact: name
        for fact, name in find_options(table.table.columns).items()
        if fact in OPTIONS and name not in {table.label, table.file}
    }
    names = list(dict.fromkeys([table.file, table.label, *options.values()]))
    rows = table.table.read(names)
    empty = pa.chunked_array([columns.texts([table.split or ""] * len(rows))])
    labels = _strip(rows.column(table.label))
    notes += describe_missing(labels, table.label, table.table.name)
    labels = without_fractions(blank_missing(labels))
    cells = {"file": rows.column(table.file), "label": labels}
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
    split_by_name = {"": ""} | dict(splits)
    unknown = [text for text in names if to_nfc(text).strip().lower() not in split_by_name]
    if unknown or len(distinct) != len(names):
        example = repr(unknown[0]) if unknown else f"{len(distinct)} texts"
        texts = sorted(filter(str.strip, names))[:EXAMPLES] or ["fold1"]
        raise PipelineError(
            f"{table}: the column {name!r} has {example}, which is no split: say which, such as "
            f"{format_splits(texts, splits)} in dataset.toml, or rename the column"
        )
    values = columns.texts([split_by_name[to_nfc(text).strip().lower()] for text in names])
    return pa.chunked_array([values.take(pa.array(codes))]) if len(codes) else column


def _missing_names(rows: pa.Table, positions: Codes) -> pa.ChunkedArray:
    return rows.column("file").filter(columns.booleans(positions < 0))
