"""Lists of files and labels among the files of a source, such as val_annotations.txt."""

import re
from collections import Counter

from pipeline.core.columns import texts
from pipeline.stages.acquire.layouts.file_index import MISSING, FileIndex
from pipeline.stages.acquire.layouts.file_names import ABOUT
from pipeline.stages.acquire.layouts.table_columns import FILES, LABELS, find_columns
from pipeline.stages.acquire.layouts.table_files import CsvFile, TableFile
from pipeline.stages.acquire.sources.class_folders import is_hidden
from pipeline.stages.acquire.sources.listing import FileTable, SourceFile

MAX_ALIKE = 10  # lists, with names that differ in numbers


def find_lists(files: FileTable, most: int) -> list[SourceFile]:
    """Texts that may be lists of files and labels, such as val_annotations.txt.

    Many with names that differ in numbers alone are of one image or class each.
    """
    names = [path for path in files.paths() if path.lower().endswith(".txt")]
    alike = Counter(_form_of(path) for path in names if not is_hidden(path))
    if sum(count for count in alike.values() if count <= MAX_ALIKE) > most:
        return []
    return [
        file
        for file, path in zip(files, files.paths(), strict=True)
        if 0 < alike.get(_form_of(path), 0) <= MAX_ALIKE and not ABOUT.search(path)
    ]


def _form_of(path: str) -> str:
    """The name of a file, with # for numbers."""
    return re.sub("[0-9]+", "#", path.rpartition("/")[2])


def without_header(table: TableFile, index: FileIndex) -> TableFile:
    """The table, without names of columns if its first line names a file."""
    if not isinstance(table, CsvFile) or not table.has_header:
        return table
    if find_columns(table.columns, (*FILES, *LABELS)):
        return table
    names = index.find(texts(table.columns), table.name[: table.name.rfind("/") + 1])
    return table.without_header() if (names.positions != MISSING).any() else table
