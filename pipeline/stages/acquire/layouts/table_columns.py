"""Which column of a table has what: by the names in dataset.toml, or by common ones."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.columns import encode
from pipeline.core.plurals import plural
from pipeline.stages.acquire.layouts.file_names import IMAGE_SUFFIX
from pipeline.stages.acquire.layouts.labels import (
    AmbiguousLayoutError,
    Reading,
    UnusableTableError,
    sample,
)
from pipeline.stages.acquire.layouts.table_files import TableFile

# Compared without case, blanks and punctuation; in the order of preference.
LABELS = (
    "label",
    "labels",
    "labelname",
    "class",
    "classname",
    "category",
    "categoryname",
    "target",
    "species",
    "breed",
    "diagnosis",
    "y",
)
# Where there is none of those. Of the last, which may number the rows, if they repeat.
OTHER_LABELS = (
    "dx",
    "disease",
    "findinglabels",
    "classlabel",
    "labelid",
    "classid",
    "categoryid",
)
MAX_SHARE = 0.5  # of distinct numbers in the rows
SAMPLED = 100  # rows, whose cells tell whether a column has the names of images
MAX_SEARCHED = 32  # columns of a table that is searched for them
FILES = (
    "filename",
    "file",
    "path",
    "filepath",
    "imagepath",
    "imgpath",
    "imagefile",
    "imagefilename",
    "image",
    "img",
    "imagename",
    "imgname",
    "photo",
    "imageid",
    "imgid",
    "photoid",
    "imageindex",
    "isicid",
    "idcode",
    "id",
    "name",
    "key",
)
URLS = ("url", "imageurl", "imgurl", "photourl", "link")
OPTIONS = {
    "split": ("split", "subset", "partition", "set", "usage"),
    "group": ("group", "groupid", "patient", "patientid", "subject", "subjectid", "ownerid"),
    "owner": ("owner", "author", "photographer", "creator"),
    "licence": ("licence", "license"),
    "sha256": ("sha256",),
    "title": ("title",),
    "page": ("page", "pageurl"),
}


@dataclass(frozen=True)
class NamedColumns:
    """The columns that dataset.toml names."""

    label: str | None = None
    file: str | None = None


def plain(name: str) -> str:
    """A column's name without case, blanks and punctuation."""
    return re.sub(r"[\W_]", "", name).casefold()


def find_column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The first column with one of some names, in the order of the names."""
    return next(iter(find_columns(columns, names)), None)


def find_columns(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """All columns with one of some names, in the order of the names."""
    return [column for name in names for column in columns if plain(column) == name]


def find_options(columns: Sequence[str]) -> dict[str, str]:
    """The columns with optional facts, by fact."""
    named = {fact: find_column(columns, names) for fact, names in OPTIONS.items()}
    return {fact: column for fact, column in named.items() if column is not None}


def require_column(table: TableFile, column: str, key: str) -> str:
    """A column that dataset.toml names.

    Raises:
        UnusableTableError: the table lacks it.
    """
    if column in table.columns:
        return column
    close = difflib.get_close_matches(column, table.columns, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UnusableTableError(
        f"{table.name} has no column {column!r}, which {key} names: {hint}it has "
        f"{', '.join(table.columns[:20])}"
    )


def find_image_names(table: TableFile, label: str | None) -> list[str]:
    """The columns whose cells are names of images, whatever the columns are called.

    Args:
        label: The column with the labels, if dataset.toml names it.
    """
    unusable = {label, *table.nested, *table.blob_columns}
    names = [name for name in table.columns if name not in unusable and name.strip()]
    if not 0 < len(names) <= MAX_SEARCHED:
        return []
    rows = table.read(names).slice(0, SAMPLED)
    return [name for name in names if are_image_names(rows.column(name).to_pylist())]


def are_image_names(cells: Sequence[str]) -> bool:
    """Whether all texts but empty ones are names of images."""
    names = [cell for cell in cells if cell]
    return bool(names) and all(IMAGE_SUFFIX.search(name.strip()) for name in names)


def find_label_column(table: TableFile, name: str | None, where: str) -> str | None:
    """The column with the labels, which `name` may give; None if none has a common name.

    Raises:
        UnusableTableError: the table lacks the column, or it has several values in a row.
        AmbiguousLayoutError: two columns of common names have different classes.
    """
    candidates = (
        [require_column(table, name, "label_column")]
        if name
        else find_columns(table.columns, LABELS) or _other_label_columns(table)
    )
    if nested := [column for column in candidates if column in table.nested]:
        raise UnusableTableError(
            f"{table.name}: the column {nested[0]!r} has neither texts nor numbers: say "
            "with label_column which column has the labels"
        )
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    first, second, *_ = candidates
    columns = table.read([first, second])
    a, b = columns.column(0), columns.column(1)
    if not are_one_to_one(a, b):
        raise AmbiguousLayoutError(
            where,
            f"two columns of {table.name} may have the classes",
            (read_column(first, a), read_column(second, b)),
        )
    return second if are_numbers(a) and not are_numbers(b) else first


def _other_label_columns(table: TableFile) -> list[str]:
    columns = find_columns(table.columns, OTHER_LABELS)
    return [name for name in columns if name in table.nested or _repeats(table, name)]


def _repeats(table: TableFile, name: str) -> bool:
    cells = table.read([name]).column(0)
    return len(encode(cells)[1]) <= max(2, MAX_SHARE * len(cells))


def read_column(column: str, cells: pa.ChunkedArray) -> Reading:
    """How the classes of a column read."""
    distinct = encode(cells)[1]
    names = distinct.slice(0, 1000).to_pylist()
    return Reading(
        "label_column", column, f"{plural(len(distinct), 'class', 'classes')} ({sample(names)})"
    )


def are_one_to_one(first: pa.ChunkedArray, second: pa.ChunkedArray) -> bool:
    """Whether two columns have the same classes under other names."""
    pairs = pc.binary_join_element_wise(first, second, "\0")
    distinct = {len(encode(column)[1]) for column in (first, second, pairs)}
    return len(distinct) == 1


def are_numbers(cells: pa.ChunkedArray) -> bool:
    """Whether all cells have numbers, or nothing."""
    return bool(pc.all(pc.match_substring_regex(cells, r"^-?[0-9.]*$")).as_py())


def without_fractions(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """The cells with 1 for 1.0, if all are whole numbers or empty.

    pandas writes whole numbers so where a cell of the column is empty.
    """
    is_whole = pc.match_substring_regex(cells, r"^(-?[0-9]+(\.0+)?)?$")
    if not pc.all(is_whole).as_py():
        return cells
    return pc.replace_substring_regex(cells, r"\.0+$", "")
