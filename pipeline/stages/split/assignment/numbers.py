"""Assign groups so that splits have exact numbers of images of each class."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.shards import SPLITS
from pipeline.params import SplitParams
from pipeline.stages.split.assignment.images import Ranks
from pipeline.stages.split.assignment.incidence import Incidence
from pipeline.stages.split.assignment.shares import TRAIN

MAX_ATTEMPTS = 20  # to reach exact numbers; each skips one more group of several classes

Numbers = npt.NDArray[np.int64]


def assign_by_number(
    order: Numbers,
    incidence: Incidence,
    classes: Sequence[str],
    names: Sequence[str],
    params: SplitParams,
    assigned: Ranks,
) -> Ranks:
    """Assign groups so that `names` (and train, if it has a number) are exact per class.

    In `order` the groups fill val, from the other end test, then train; a group that is too large
    for the rest of a split is passed over. None is left out.

    Args:
        order: The groups to assign.
        incidence: The classes that have exact numbers.
        assigned: The split of each group, -1 for those to assign. Groups in train count there.

    Raises:
        PipelineError: a split cannot have its number of a class.
    """
    assigned = assigned.copy()
    for name in (*names, "train"):
        free = order[assigned[order] < 0]
        number = getattr(params, name)
        selected: Numbers | list[int] = free
        if number is not None:
            taken = _images(incidence, np.flatnonzero(assigned == TRAIN), name)
            search = _Search(free[::-1] if name == "test" else free, incidence, classes)
            selected = search.fill(name, number, taken)
        assigned[selected] = SPLITS.index(name)
    return assigned


def _images(incidence: Incidence, groups: Numbers, name: str) -> Numbers:
    """(classes,) images of some groups; they count in train alone."""
    counts = np.zeros(incidence.class_count, np.int64)
    if name == "train":
        is_in = np.isin(incidence.groups, groups)
        np.add.at(counts, incidence.classes[is_in], incidence.sizes[is_in])
    return counts


class _Search:
    """A search for groups that together have exact numbers of images."""

    def __init__(self, order: Numbers, incidence: Incidence, classes: Sequence[str]) -> None:
        self._order = order
        self._incidence = incidence
        self._classes = classes
        class_counts = incidence.class_counts[order]
        self._mixed = order[class_counts > 1]
        single = order[class_counts == 1]
        pairs = np.zeros(incidence.group_count, np.int64)  # of groups of one class
        pairs[incidence.groups] = np.arange(len(incidence.groups))
        by_class = np.argsort(incidence.classes[pairs[single]], kind="stable")
        self._single = single[by_class]
        self._labels = incidence.classes[pairs[self._single]]
        self._sizes = incidence.sizes[pairs[self._single]]

    def fill(self, name: str, number: int, taken: Numbers) -> list[int]:
        """Select groups that together have exactly `number` images of each class, early ones first.

        Groups of several classes are taken as they fit; those of one class
        make the number exact wherever that is possible.

        Args:
            taken: (classes,) images that the split already has.
        """
        failed = -1
        # A group of several classes may prevent an exact sum: start with another one.
        for start in (*range(min(MAX_ATTEMPTS, len(self._mixed))), len(self._mixed)):
            missing = number - taken
            selected = self._take_mixed(start, missing)
            for label, groups, sizes in self._single_by_class():
                subset = exact_subset(int(missing[label]), sizes)
                if subset is None:
                    failed = label if failed < 0 else failed
                    break
                selected += groups[subset].tolist()
            else:
                return selected
        raise self._error(name, number, failed)

    def _take_mixed(self, start: int, missing: Numbers) -> list[int]:
        """Take the groups of several classes that fit, and subtract their images."""
        selected = []
        for group in map(int, self._mixed[start:]):
            pairs = self._incidence.pairs_of(group)
            labels, sizes = self._incidence.classes[pairs], self._incidence.sizes[pairs]
            if (sizes <= missing[labels]).all():
                missing[labels] -= sizes
                selected.append(group)
        return selected

    def _single_by_class(self) -> Iterator[tuple[int, Numbers, Numbers]]:
        """Each class that has exact numbers, with its groups of this class alone in order."""
        present = np.unique(self._incidence.classes)
        starts = np.searchsorted(self._labels, present)
        ends = np.searchsorted(self._labels, present, side="right")
        for label, start, end in zip(present, starts, ends, strict=True):
            yield int(label), self._single[start:end], self._sizes[start:end]

    def _error(self, name: str, number: int, label: int) -> PipelineError:
        is_of_class = self._incidence.classes == label
        is_left = is_of_class & np.isin(self._incidence.groups, self._order)
        left = int(self._incidence.sizes[is_left].sum())
        if left < number:
            return PipelineError(
                f"split.{name} = {number}, but class {self._classes[label]!r} has only "
                f"{plural(left, 'image')} left for it: add images, or lower it"
            )
        return PipelineError(
            f"split.{name} = {number}, but no choice of whole groups has exactly that many of "
            f"class {self._classes[label]!r} ({plural(left, 'image')} left for it): add images, or "
            "change the number"
        )


def exact_subset(number: int, sizes: Numbers) -> list[int] | None:
    """Indices of sizes that sum up to `number`, as early as an exact sum permits, or None."""
    if number < 0:
        return None
    if sizes.max(initial=1) == 1:
        return list(range(number)) if number <= len(sizes) else None
    first, reachable = _reachable_sums(number, sizes)
    subset, missing = [], number
    for index, size in enumerate(map(int, sizes)):
        if size <= missing and reachable[max(0, index + 1 - first)] >> (missing - size) & 1:
            subset.append(index)
            missing -= size
    return None if missing else subset


def _reachable_sums(number: int, sizes: Numbers) -> tuple[int, list[int]]:
    """The sums up to `number` that subsets of the last sizes have.

    Returns:
        The index of a size, before which all sums can be reached; and from it on for each size to
        the end, and for none, an integer whose bit s says that its and later sizes reach s.
    """
    mask = (1 << (number + 1)) - 1
    sums, first = [1], len(sizes)
    while first and sums[-1] != mask:
        first -= 1
        sums.append((sums[-1] | (sums[-1] << int(sizes[first]))) & mask)
    return first, sums[::-1]
