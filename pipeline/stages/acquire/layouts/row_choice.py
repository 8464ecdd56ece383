"""Which row of tables counts for a file that several name."""

import numpy as np
import pyarrow as pa

from pipeline.core import columns
from pipeline.core.columns import Codes
from pipeline.core.plurals import plural
from pipeline.core.shards import SPLITS

CONFLICT, NONE = -2, -1  # in the place of a row


def rank_splits(splits: pa.ChunkedArray) -> Codes:
    """The order of the split of each row, 0 for none: 1 for train, then val and test."""
    codes, names = columns.encode(splits)
    order = [SPLITS.index(name) + 1 if name else 0 for name in names.to_pylist()]
    return np.array([*order, 0], np.int32)[codes]


def rows_of_files(positions: Codes, codes: Codes, ranks: Codes, count: int) -> Codes:
    """The row of each file: the first of its latest split; CONFLICT for several labels.

    Args:
        positions: The file of each row; negative where it is missing.
        codes: The label of each row.
        ranks: The order of the split of each row.
        count: Number of files.
    """
    rows = np.flatnonzero(positions >= 0)
    rows = rows[np.argsort(-ranks[rows], kind="stable")]
    result = np.full(count, NONE, np.int32)
    result[positions[rows[::-1]]] = rows[::-1]  # the first is written last
    least, most = _range(positions[rows], codes[rows], count)
    result[(most >= 0) & (least != most)] = CONFLICT
    return result


def describe_several_splits(positions: Codes, ranks: Codes, count: int) -> list[str]:
    """Say how many files have rows of several splits."""
    rows = np.flatnonzero((positions >= 0) & (ranks > 0))
    least, most = _range(positions[rows], ranks[rows], count)
    number = int(((most >= 0) & (least != most)).sum())
    if not number:
        return []
    return [f"tables have {plural(number, 'image')} in several splits: the latest of them counts"]


def _range(files: Codes, values: Codes, count: int) -> tuple[Codes, Codes]:
    """The least and the most of the values of each file; the most is -1 where there is none."""
    least = np.full(count, np.iinfo(np.int32).max, np.int32)
    most = np.full(count, -1, np.int32)
    np.minimum.at(least, files, values)
    np.maximum.at(most, files, values)
    return least, most
