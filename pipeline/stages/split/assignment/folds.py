"""Assign groups by fold: one fold tests, and a share of the others validates."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.core.shards import array
from pipeline.core.stable_hash import unit_interval
from pipeline.params import SplitParams
from pipeline.stages.split.assignment.coverage import Parts, Required, cover_classes
from pipeline.stages.split.assignment.draw import KeyNumbers, Positions, positions
from pipeline.stages.split.assignment.groups import Groups
from pipeline.stages.split.assignment.images import Ranks
from pipeline.stages.split.assignment.incidence import Incidence
from pipeline.stages.split.assignment.shares import TEST, TRAIN, VAL

UNTESTED = -1  # the fold of groups that are always in train or val


def assign_by_fold(
    groups: Groups,
    leaders: KeyNumbers,
    places: Positions,
    incidence: Incidence,
    classes: Sequence[str],
    params: SplitParams,
) -> Ranks:
    """Assign each group: fold `split.fold` tests, and a share of the others validates.

    A group's fold does not depend on `split.fold`, so each image is tested in exactly one fold. A
    class with as many groups as folds, or more, is tested in each of them. A class whose groups are
    all in one fold, as a single one is, would have nothing to train on there: it is not tested.

    Args:
        leaders: The key whose position places each group.
        places: The position of each key.
    """
    assert params.folds is not None
    folds = (places[leaders] * params.folds).astype(np.int8)
    centres = (np.arange(params.folds) + 0.5) / params.folds
    parts = Parts(
        np.ones((len(groups), params.folds), bool), np.abs(places[leaders][:, None] - centres)
    )
    is_single = _groups_in_one_fold(np.arange(len(groups)), incidence)  # of a class
    tested = incidence.select(~is_single[incidence.groups])
    folds = cover_classes(folds, tested, parts, _folds_of_classes(classes, params))
    folds[is_single] = UNTESTED
    is_test = (folds == params.fold) & ~_groups_in_one_fold(folds, incidence)
    return _divide_the_rest(is_test, groups, leaders, incidence, params)


def _folds_of_classes(classes: Sequence[str], params: SplitParams) -> Required:
    """All folds, or for a class with fewer groups as many, from a random one on."""
    count = params.folds or 1

    def required(label: int, groups: int) -> Sequence[int]:
        if groups >= count:
            return range(count)
        first = int(unit_interval(f"first fold {classes[label]}", params.seed) * count)
        return [(first + step) % count for step in range(groups)]

    return required


def _groups_in_one_fold(
    folds: npt.NDArray[np.integer], incidence: Incidence
) -> npt.NDArray[np.bool_]:
    """(groups,): the groups of classes that are in one fold alone."""
    in_fold, classes = folds[incidence.groups], incidence.classes
    first = np.full(incidence.class_count, np.iinfo(folds.dtype).max, folds.dtype)
    last = np.full(incidence.class_count, UNTESTED, folds.dtype)
    np.minimum.at(first, classes, in_fold)
    np.maximum.at(last, classes, in_fold)
    is_in_one = np.zeros(incidence.group_count, bool)
    is_in_one[incidence.groups[(first == last)[classes]]] = True
    return is_in_one


def _divide_the_rest(
    is_test: npt.NDArray[np.bool_],
    groups: Groups,
    leaders: KeyNumbers,
    incidence: Incidence,
    params: SplitParams,
) -> Ranks:
    """Assign the groups outside the test fold to val and train."""
    places = positions(groups.keys.take(array(leaders)), params.seed, "val ")
    splits = np.where(places < params.val, VAL, TRAIN).astype(np.int8)
    parts = Parts(np.ones((len(groups), 2), bool), np.stack([1 - places, places], axis=1))
    rest = incidence.select(~is_test[incidence.groups])
    splits = cover_classes(splits, rest, parts, lambda _, groups: (TRAIN, VAL)[:groups])
    splits[is_test] = TEST
    return splits
