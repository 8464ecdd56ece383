"""Assign images to splits: by share, by number, or by fold; where the source does, as it does.

Independent of the order of images. Randomness is a salted hash of a group's keys (`draw`), so by
share a new image moves others only where it joins two groups, or where a class would otherwise have
no image in a split (`coverage`). Shares hold in expectation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from pipeline.core import columns
from pipeline.core.errors import PipelineError
from pipeline.core.shards import SPLITS, array
from pipeline.core.split_csv import SplitRow
from pipeline.params import SplitParams
from pipeline.stages.split.assignment.coverage import Parts, cover_classes
from pipeline.stages.split.assignment.draw import draw_leaders, positions
from pipeline.stages.split.assignment.folds import assign_by_fold
from pipeline.stages.split.assignment.groups import Groups
from pipeline.stages.split.assignment.images import Images, Ranks
from pipeline.stages.split.assignment.incidence import Incidence, find_incidence
from pipeline.stages.split.assignment.numbers import assign_by_number
from pipeline.stages.split.assignment.shares import (
    TEST,
    TRAIN,
    VAL,
    Allowed,
    assign_by_share,
    count_previous,
)

HELD_OUT = ("val", "test")  # splits that have a share; train gets the rest


def assign(groups: Groups, images: Images, params: SplitParams, previous: Ranks) -> Ranks:
    """Assign each image to a split, or to -1 where it is left out.

    Args:
        previous: The split of each image in the last run, which takes precedence over chance.

    Raises:
        PipelineError: the source prescribes splits with folds, or a number cannot be met.
    """
    own = images.splits if params.prescribed else np.full(len(images), -1, np.int8)
    source_splits = {SPLITS[rank] for rank in np.unique(own) if rank >= 0}
    if source_splits and params.folds:
        raise PipelineError(
            f"the source prescribes {' and '.join(sorted(source_splits))}, and split.folds assigns "
            "anew: set split.prescribed=false for that, or split.folds=null"
        )
    # Of a group in several prescribed splits, only the images in the latest one stay.
    prescribed = np.full(len(groups), -1, np.int8)
    np.maximum.at(prescribed, groups.of_row, own)
    names = [name for name in HELD_OUT if name not in source_splits]
    is_used = (own < 0) | (own == prescribed[groups.of_row])
    incidence = find_incidence(
        images.labels[is_used], groups.of_row[is_used], len(images.classes), len(groups)
    )
    task = _Task(groups, incidence, images.classes, prescribed, names, params)
    return np.where(is_used, task.assign(previous)[groups.of_row], np.int8(-1))


@dataclass(frozen=True)
class _Task:
    """Groups to assign."""

    groups: Groups
    incidence: Incidence
    classes: Sequence[str]
    prescribed: Ranks
    """The split of each group by the source."""
    names: Sequence[str]
    """The splits that the source lacks: images of its train set may be held out in these alone."""
    params: SplitParams

    def assign(self, previous: Ranks) -> Ranks:
        """The split of each group."""
        places = positions(self.groups.keys, self.params.seed)
        leaders = draw_leaders(self.groups, self.params.seed)
        if self.params.folds:
            return assign_by_fold(
                self.groups, leaders, places, self.incidence, self.classes, self.params
            )
        if self.params.is_exact:
            return self._by_number(places[leaders])
        allowed = self._allowed()
        assigned = assign_by_share(self.groups, places, allowed, self.params, previous)
        assigned = np.where(self.prescribed > TRAIN, self.prescribed, assigned)
        is_known = count_previous(self.groups, allowed, previous).sum(axis=1) > 0
        parts = Parts(allowed, self._distances(places[leaders]), is_known)
        return cover_classes(assigned, self.incidence, parts, required_splits)

    def _allowed(self) -> Allowed:
        allowed = np.ones((len(self.groups), len(SPLITS)), bool)
        for name in {*HELD_OUT} - {*self.names}:
            allowed[self.prescribed == TRAIN, SPLITS.index(name)] = False
        for rank in (VAL, TEST):
            allowed[self.prescribed == rank] = np.arange(len(SPLITS)) == rank
        return allowed

    def _distances(self, places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """From the low end to val, from the high end to test, from the middle to train."""
        middle = (self.params.val + 1 - self.params.test) / 2
        return np.stack([np.abs(places - middle), places, 1 - places], axis=1)

    def _by_number(self, places: npt.NDArray[np.float64]) -> Ranks:
        """Assign small classes to train and val; the others have exact numbers."""
        is_small = self.incidence.group_counts < len(SPLITS)
        assigned = self._small_classes(is_small, places)
        order = np.argsort(places, kind="stable")
        exact = self.incidence.select(~is_small[self.incidence.classes])
        return assign_by_number(order, exact, self.classes, self.names, self.params, assigned)

    def _small_classes(
        self, is_small: npt.NDArray[np.bool_], places: npt.NDArray[np.float64]
    ) -> Ranks:
        """The splits of the groups that small classes need or have alone; -1 for all others."""
        large = self.incidence.groups[~is_small[self.incidence.classes]]
        is_alone = (np.bincount(large, minlength=len(self.groups)) == 0) & (
            self.prescribed <= TRAIN
        )
        alone = self.incidence.select(is_alone[self.incidence.groups])
        needed = (TRAIN, VAL) if "val" in self.names else (TRAIN,)
        assigned = cover_classes(
            np.full(len(self.groups), TRAIN, np.int8),
            alone,
            Parts(np.ones((len(places), 2), bool), np.stack([1 - places, places], axis=1)),
            lambda _, groups: needed[:groups],
        )
        assigned[~is_alone] = -1
        for label in np.flatnonzero(is_small & (alone.group_counts == 0)).tolist():
            free = [n for n in self.incidence.groups_of(label) if self.prescribed[n] <= TRAIN]
            assigned[free[:1]] = TRAIN  # a group that a large class shares
        return np.where(self.prescribed > TRAIN, self.prescribed, assigned)


def required_splits(_: int, groups: int) -> Sequence[int]:
    """The splits that a class with so many groups is in, the most important first."""
    return (TRAIN, VAL, TEST)[:groups]


def split_rows(groups: Groups, images: Images, splits: Ranks, seed: int) -> Iterator[SplitRow]:
    """Yield the rows of split.csv, by id. A group of one image has no name."""
    order = np.from_dlpack(pc.sort_indices(images.ids))
    order = order[splits[order] >= 0]
    leaders, first_rows = draw_leaders(groups, seed), groups.first_rows()
    has_name = np.bincount(groups.of_key, minlength=len(groups)) > 1  # several keys
    for start in range(0, len(order), columns.CHUNK):
        rows = order[start : start + columns.CHUNK]
        numbers = groups.of_row[rows]
        ids = images.ids.take(array(rows)).to_pylist()
        names = groups.keys.take(array(leaders[numbers])).to_pylist()
        first_ids = images.ids.take(array(first_rows[numbers])).to_pylist()
        for n, row in enumerate(rows):
            is_named = has_name[numbers[n]] or names[n] != first_ids[n]
            label = images.classes[images.labels[row]]
            yield SplitRow(ids[n], label, SPLITS[splits[row]], names[n] if is_named else "")
