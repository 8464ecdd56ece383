"""The tables among the files of a folder or archive."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import ExternalDataset
from pipeline.stages.acquire.layouts.file_index import FileIndex
from pipeline.stages.acquire.layouts.file_names import LIST_SUFFIXES, TABLE_SUFFIXES
from pipeline.stages.acquire.layouts.labels import (
    AmbiguousLayoutError,
    Reading,
    RepeatedNamesError,
    UnclearColumnError,
    UnusableTableError,
)
from pipeline.stages.acquire.layouts.lists import find_lists, without_header
from pipeline.stages.acquire.layouts.parquet_file import ParquetFile
from pipeline.stages.acquire.layouts.table_columns import (
    NamedColumns,
    plain,
)
from pipeline.stages.acquire.layouts.table_files import TableFile, open_text_table
from pipeline.stages.acquire.layouts.table_labels import (
    LabelTable,
    TableLabels,
    have_same_labels,
    read_table,
)
from pipeline.stages.acquire.sources.class_folders import is_hidden
from pipeline.stages.acquire.sources.listing import FileTable, SourceFile

MAX_TABLES = 100  # beside images; data sets with more have one per image
MAX_TABLE_BYTES = 500e6  # read at once


@dataclass(frozen=True)
class TableSearch:
    """What looking for labels in tables gave."""

    labels: TableLabels | None
    problems: tuple[str, ...] = ()
    """Of tables that cannot be used, a clause each."""
    repeated: RepeatedNamesError | None = None
    """Of a table whose names several files have."""


def find_table_files(files: FileTable, dataset: ExternalDataset, where: str) -> list[SourceFile]:
    """The tables of a listing: those that `table` of dataset.toml names, or all.

    Raises:
        PipelineError: there is none of that name.
    """
    names = []
    for file, path in zip(files, files.paths(), strict=True):
        suffix = path[path.rfind(".") :].lower()
        is_table = suffix in TABLE_SUFFIXES and not is_hidden(path)
        if dataset.table is not None:
            is_table = suffix in LIST_SUFFIXES and not is_hidden(path)
            is_table = is_table and (fnmatch(path, dataset.table) or path == dataset.table)
        elif "samplesubmission" in plain(path):  # Kaggle's: its labels are made up
            is_table = False
        if is_table:
            names.append(file)
    if dataset.table is not None and not names:
        raise PipelineError(f"{where}: no table in it is {dataset.table}")
    return names


def find_labels(files: FileTable, dataset: ExternalDataset, where: str) -> TableSearch:
    """Labels in the tables of a listing, for the images in it.

    Raises:
        PipelineError: what dataset.toml names is missing, or a table is damaged.
        AmbiguousLayoutError: several tables have labels, or several columns.
    """
    named = NamedColumns(dataset.label_column, dataset.file_column)
    table_files = find_table_files(files, dataset, where)
    is_named = bool(dataset.table or named.label or named.file)
    if not is_named:
        table_files += find_lists(files, MAX_TABLES)
    if not table_files or (len(table_files) > MAX_TABLES and not is_named):
        return TableSearch(None)
    opened = _open_tables(files, table_files, where, is_named, dataset.encoding)
    label_tables, problems, repeated = _read_tables(opened, FileIndex(files), named, dataset, where)
    if label_tables:
        label_tables, notes = _drop_guesses(label_tables)
        _check_one(label_tables, where)
        labels = TableLabels(label_tables, dataset.splits, len(files), notes)
        if not named.label and (problem := labels.describe_captions()):
            if is_named:
                raise PipelineError(f"{where}: {problem}")
            return TableSearch(None, (problem, *problems), repeated)
        return TableSearch(labels)
    if repeated and is_named:
        raise repeated
    if problems and is_named:
        raise PipelineError(f"{where}: {problems[0]}")
    return TableSearch(None, tuple(problems), repeated)


def _read_tables(
    opened: Iterable[TableFile | PipelineError],
    index: FileIndex,
    named: NamedColumns,
    dataset: ExternalDataset,
    where: str,
) -> tuple[list[LabelTable], list[str], RepeatedNamesError | None]:
    """The tables with labels; why others have none; and why one cannot be used, which is told.

    Of a text that nobody named, only what may be a list counts.
    """
    tables: list[LabelTable] = []
    problems: list[str] = []
    repeated = None
    for opened_table in opened:
        if isinstance(opened_table, PipelineError):
            problems.append(str(opened_table))
            continue
        table = without_header(opened_table, index)
        try:
            tables.append(read_table(table, index, named, dataset.splits, where))
        except RepeatedNamesError as error:
            repeated = repeated if _is_any_text(table.name, dataset) else error
        except UnusableTableError as error:
            is_list = isinstance(error, UnclearColumnError) or not _is_any_text(table.name, dataset)
            problems += [str(error)] if is_list else []
        except PipelineError:
            if not _is_any_text(table.name, dataset):
                raise
    return tables, problems, repeated


def _is_any_text(name: str, dataset: ExternalDataset) -> bool:
    """Whether a file is a text that nobody named, and so may be about anything."""
    return name.lower().endswith(".txt") and not dataset.table


def _drop_guesses(tables: list[LabelTable]) -> tuple[list[LabelTable], list[str]]:
    """Leave out tables without a column of labels by a common name, if others have one.

    Of a test set without labels, the only other column may be anything.
    """
    known = [table for table in tables if not table.is_guess]
    if not known:
        return tables, []
    notes = [
        f"{table.table.name} has no column of labels by a common name and is left out, unless "
        "label_column names one"
        for table in tables
        if table.is_guess
    ]
    return known, notes


def open_parquet(files: FileTable, file: SourceFile) -> ParquetFile:
    """Open a Parquet file of a listing.

    Raises:
        PipelineError: it is damaged.
    """
    return ParquetFile(file.name, file.path(files.folder) if files.folder else file.read)


def _open_tables(
    all_files: FileTable,
    tables: list[SourceFile],
    where: str,
    is_named: bool,
    encoding: str | None,
) -> Iterator[TableFile | PipelineError]:
    """Yield the tables, or why one cannot be read; nothing for a text that is no list.

    Raises:
        PipelineError: one that dataset.toml is about cannot be read.
    """
    for file in tables:
        try:
            if file.name.lower().endswith(".parquet"):
                yield open_parquet(all_files, file)
                continue
            if file.size > MAX_TABLE_BYTES:
                raise PipelineError(f"{file.name} is larger than {MAX_TABLE_BYTES / 1e6:.0f} MB")
            yield open_text_table(file.name, file.read(), encoding)
        except PipelineError as error:
            if is_named:
                raise PipelineError(f"{where}: {error}") from error
            if not file.name.lower().endswith(".txt"):
                yield error


def _check_one(tables: list[LabelTable], where: str) -> None:
    """Refuse tables that are neither parts of one nor named after splits."""
    first, *others = tables
    for other in others:
        are_parts = set(first.table.columns) == set(other.table.columns)
        if not first.table.has_header:
            are_parts = are_parts and have_same_labels(first, other)
        are_splits = first.split and other.split and first.split != other.split
        if first.is_guess and first.label != other.label:
            are_splits = False
        if not are_parts and not are_splits:
            raise AmbiguousLayoutError(
                where,
                "two tables have labels for its files",
                (
                    Reading("table", first.table.name, f"{first.label!r} of the first"),
                    Reading("table", other.table.name, f"{other.label!r} of the second"),
                ),
            )
