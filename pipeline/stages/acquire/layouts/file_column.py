"""Which column of a table names files, and which files."""

import re
from collections.abc import Mapping

import numpy as np

from pipeline.core.columns import Codes
from pipeline.stages.acquire.layouts.file_index import AMBIGUOUS, MISSING, FileIndex, Match
from pipeline.stages.acquire.layouts.table_columns import (
    FILES,
    NamedColumns,
    are_numbers,
    find_columns,
    find_image_names,
    require_column,
)
from pipeline.stages.acquire.layouts.table_files import TableFile


def find_file_column(
    table: TableFile,
    index: FileIndex,
    named: NamedColumns,
    splits: Mapping[str, str],
    split: str | None,
) -> tuple[str | None, Codes, str]:
    """The column that names the most files, their positions, and a note on their spelling."""
    if named.file:
        candidates = [require_column(table, named.file, "file_column")]
    elif not table.has_header:
        candidates = [name for name in table.columns[:2] if name != named.label]
        candidates = [name for name in candidates if not are_numbers(table.read([name]).column(0))]
    else:
        candidates = [name for name in find_columns(table.columns, FILES) if name != named.label]
    candidates = [name for name in candidates if name not in table.nested]
    matches = {name: _find_files(table, name, index, splits, split) for name in candidates}
    if not named.file and table.has_header and not any(map(_finds_any, matches.values())):
        others = [name for name in find_image_names(table, named.label) if name not in matches]
        more = {name: _find_files(table, name, index, splits, split) for name in others}
        matches |= {name: match for name, match in more.items() if _finds_any(match)}
    if not matches:
        return None, np.zeros(0, np.int32), ""
    file = max(matches, key=lambda name: matches[name].rank())
    for name in [file] if _finds_any(matches[file]) else list(matches):
        values = table.read([name]).column(0)
        positions = index.find_loosely(values, _folder(table), matches[name])
        if changed := np.flatnonzero(positions != matches[name].positions).tolist():
            row = changed[0]
            note = (
                f"the column {name!r} of {table.name} has {values[row].as_py()!r} for "
                f"{index.path_of(int(positions[row]))!r}: case, blanks and zeros in front do not "
                "matter where one file alone is meant"
            )
            return name, positions, note
    return file, matches[file].positions, ""


def _finds_any(match: Match) -> bool:
    return bool((match.positions != MISSING).any())


def _folder(table: TableFile) -> str:
    return table.name[: table.name.rfind("/") + 1]


def _find_files(
    table: TableFile,
    column: str,
    index: FileIndex,
    splits: Mapping[str, str],
    split: str | None,
) -> Match:
    values = table.read([column]).column(0)
    match = index.find(values, _folder(table))
    if split and (match.positions == AMBIGUOUS).any():  # train/1.jpg and test/1.jpg
        own = index.select(lambda name: _split_of_folder(name, splits) == split)
        return own.find(values, _folder(table))
    return match


def _split_of_folder(name: str, splits: Mapping[str, str]) -> str | None:
    """The split of a folder such as train, a/train_images or test1."""
    words = [word for part in reversed(name.split("/")) for word in _words(part)]
    return next((splits[word] for word in words if word in splits), None)


def _words(name: str) -> list[str]:
    return [name.lower(), *re.split(r"[^a-z]+", name.lower())]
