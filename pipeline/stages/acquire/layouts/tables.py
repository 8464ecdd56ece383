"""The tables among the files of a folder or archive."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePosixPath

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.dataset_toml import ExternalDataset
from pipeline.stages.acquire.layouts.file_index import FileIndex
from pipeline.stages.acquire.layouts.file_names import TABLE_SUFFIXES
from pipeline.stages.acquire.layouts.labels import AmbiguousLayoutError, Reading
from pipeline.stages.acquire.layouts.table_columns import NamedColumns, plain
from pipeline.stages.acquire.layouts.table_files import TableFile, open_text_table
from pipeline.stages.acquire.layouts.table_labels import LabelTable, TableLabels, read_table
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


def find_table_files(files: FileTable, dataset: ExternalDataset, where: str) -> list[SourceFile]:
    """The tables of a listing: those that `table` of dataset.toml names, or all.

    Raises:
        PipelineError: there is none of that name.
    """
    names = []
    for file, path in zip(files, files.paths(), strict=True):
        is_table = PurePosixPath(path).suffix.lower() in TABLE_SUFFIXES and not is_hidden(path)
        if dataset.table is not None:
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
        PipelineError: what dataset.toml names is missing.
        AmbiguousLayoutError: several tables have labels, or several columns.
    """
    named = NamedColumns(dataset.label_column, dataset.file_column)
    table_files = find_table_files(files, dataset, where)
    is_named = bool(dataset.table or named.label or named.file)
    if not table_files or (len(table_files) > MAX_TABLES and not is_named):
        return TableSearch(None)
    index = FileIndex(files)
    label_tables: list[LabelTable] = []
    problems: list[str] = []
    for table in _open_tables(table_files, where, problems, is_named):
        label_table = read_table(table, index, named, dataset.splits, where)
        if label_table is None:
            problems.append(f"{table.name} has the columns {', '.join(table.columns[:20])}")
        else:
            label_tables.append(label_table)
    if not label_tables:
        return TableSearch(None, tuple(problems))
    _check_one(label_tables, where)
    return TableSearch(TableLabels(label_tables, dataset.splits, len(files)))


def _open_tables(
    files: list[SourceFile], where: str, problems: list[str], is_named: bool
) -> Iterator[TableFile]:
    for file in files:
        if file.name.lower().endswith(".parquet"):
            continue  # of images, not beside them
        try:
            if file.size > MAX_TABLE_BYTES:
                raise PipelineError(f"{file.name} is larger than {MAX_TABLE_BYTES / 1e6:.0f} MB")
            yield open_text_table(file.name, file.read())
        except PipelineError as error:
            if is_named:
                raise PipelineError(f"{where}: {error}") from error
            problems.append(str(error))


def _check_one(tables: list[LabelTable], where: str) -> None:
    """Refuse tables that are neither parts of one nor named after splits."""
    first, *others = tables
    for other in others:
        are_parts = set(first.table.columns) == set(other.table.columns)
        are_splits = first.split and other.split and first.split != other.split
        if not are_parts and not are_splits:
            raise AmbiguousLayoutError(
                where,
                "two tables have labels for its files",
                (
                    Reading("table", first.table.name, f"{first.label!r} of the first"),
                    Reading("table", other.table.name, f"{other.label!r} of the second"),
                ),
            )
