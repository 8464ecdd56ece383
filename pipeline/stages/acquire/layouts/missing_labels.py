"""Texts that programs write where a label is missing."""

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.columns import Column, texts
from pipeline.core.plurals import plural

MISSING = texts(["nan", "NaN"])  # pandas' and JSON's
DOUBTFUL = texts(["None"])  # Python's, or a class


def blank_missing(cells: Column) -> Column:
    """The cells with "" for texts that stand for nothing."""
    return pc.if_else(pc.is_in(cells, value_set=MISSING), pa.scalar("", pa.string()), cells)


def describe_missing(cells: Column, column: str, table: str) -> list[str]:
    """Say how many cells have such a text, or one that may be meant so."""
    missing, doubtful = (
        pc.sum(pc.is_in(cells, value_set=values)).as_py() or 0 for values in (MISSING, DOUBTFUL)
    )
    where = f"the column {column!r} of {table}"
    notes = []
    if missing:
        notes.append(f"{where} has NaN in {plural(missing, 'row')}: without a label")
    if doubtful:
        notes.append(f"{where} has 'None' in {plural(doubtful, 'row')}, which counts as a class")
    return notes
