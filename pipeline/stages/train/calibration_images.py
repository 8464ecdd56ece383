"""The validation images that calibrate abstention, and do nothing else.

A threshold holds its promise only if the model has not seen the images that fit it. Those that
choose the weights or fit the temperature are seen, so some groups are set aside before.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import columns
from pipeline.core.shards import array
from pipeline.core.split_csv import read_split
from pipeline.core.stable_hash import unit_interval
from pipeline.network.examples import Examples
from pipeline.network.feature_arrays import Rows
from pipeline.params import AbstentionParams
from pipeline.stages.train.conformal import Numbers, least_groups

SPLIT = "calibration"  # of these images, instead of val
SALT = "abstention"  # the draw must not follow that of the splits
LEAST_LEFT = 100  # groups that choose the weights and fit the temperature, unless `share` says less


@dataclass(frozen=True)
class CalibrationImages:
    """N images that are set aside."""

    rows: Rows
    """(N,) Of split.csv, ascending."""
    groups: Numbers
    """(N,) The same number for images of a group; others have one of their own."""


def draw(split_csv: Path, examples: Examples, params: AbstentionParams) -> CalibrationImages:
    """Draw whole groups of the validation set, by a hash of their names.

    Groups are drawn, not images, so that a large one is no likelier. A new group moves another only
    where it takes its place.
    """
    table = read_split(split_csv)
    table = table.where(pc.equal(table.splits, "val"))
    numbers, names = columns.encode(columns.fill_empty(table.groups, table.ids))
    places = [unit_interval(f"{SALT}:{name}", seed=0) for name in columns.iterate(names)]
    drawn = np.argsort(places, kind="stable")[: count_groups(len(places), params)]
    is_drawn = np.isin(numbers, drawn)
    return CalibrationImages(examples.rows("val")[is_drawn], numbers[is_drawn].astype(np.int64))


def count_groups(groups: int, params: AbstentionParams) -> int:
    """How many of so many validation groups are set aside."""
    if params.share is not None:
        return max(0, min(int(groups * params.share), groups - 1))
    number = min(groups // 2, max(0, groups - LEAST_LEFT))
    return number if number >= least_groups(params.coverage) else 0


def set_aside(examples: Examples, rows: Rows) -> Examples:
    """The same examples, with `rows` in the split `SPLIT`."""
    marks = np.zeros(len(examples), np.uint8)
    marks[rows] = 1
    is_aside = pc.cast(array(marks), pa.bool_())
    splits = pc.if_else(is_aside, pa.scalar(SPLIT, examples.splits.type), examples.splits)
    return replace(examples, splits=splits)
