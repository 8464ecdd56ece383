"""Assign groups by share, from where they were in the last run, or else from their leaders."""

import numpy as np
import numpy.typing as npt

from pipeline.core.shards import SPLITS
from pipeline.params import SplitParams
from pipeline.stages.split.assignment.draw import Positions, draw_leaders
from pipeline.stages.split.assignment.groups import Groups
from pipeline.stages.split.assignment.images import Ranks

TRAIN, VAL, TEST = range(len(SPLITS))

Allowed = npt.NDArray[np.bool_]
"""(groups, splits): which splits a group may be in. Train is always allowed."""


def assign_by_share(
    groups: Groups, places: Positions, allowed: Allowed, params: SplitParams, previous: Ranks
) -> Ranks:
    """Assign each group to the split of most of its images in the last run, else of its leader.

    Args:
        places: The position of each key.
        allowed: The splits that each group may be in; train gets what others may not get.
        previous: The split of each image in the last run.
    """
    of_key = _splits_at(places, params)
    of_key[~allowed[groups.of_key, of_key]] = TRAIN
    counts = count_previous(groups, allowed, previous)
    tied = counts == counts.max(axis=1, keepdims=True, initial=0)
    is_tied = tied.sum(axis=1) > 1
    candidates = (tied[groups.of_key, of_key]) & is_tied[groups.of_key]
    leaders = draw_leaders(groups, params.seed, candidates)
    splits: Ranks = tied.argmax(axis=1).astype(np.int8)
    splits[leaders >= 0] = of_key[leaders[leaders >= 0]]
    return splits


def count_previous(groups: Groups, allowed: Allowed, previous: Ranks) -> npt.NDArray[np.int32]:
    """(groups, splits): images that were in each split in the last run, where that is allowed."""
    rows = np.flatnonzero(previous >= 0)
    of_row, splits = groups.of_row[rows], previous[rows]
    counts = np.zeros(allowed.shape, np.int32)
    np.add.at(counts, (of_row, splits), 1)
    counts[~allowed] = 0
    return counts


def _splits_at(places: Positions, params: SplitParams) -> Ranks:
    # val from the lower end, test from the upper: changing one share moves no image of the other.
    splits = np.full(len(places), TRAIN, np.int8)
    splits[places >= 1 - params.test] = TEST
    splits[places < params.val] = VAL
    return splits
