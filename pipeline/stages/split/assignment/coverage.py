"""Put every class into every split, as far as it has groups for that.

Chance alone leaves a class of 20 images without one in val in 4 of 100 cases. Such a class gets a
group from a split where it has several. Classes with few groups come first, and no later class
takes from them what they need.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np
import numpy.typing as npt

from pipeline.stages.split.assignment.images import Ranks
from pipeline.stages.split.assignment.incidence import Incidence

Required = Callable[[int, int], Sequence[int]]
"""The parts that a class needs, the most important first: by its position and number of groups."""


@dataclass(frozen=True)
class Parts:
    """The parts (splits or folds) that groups are assigned to, and which groups may move."""

    allowed: npt.NDArray[np.bool_]
    """(groups, parts): where each group may be."""
    distances: npt.NDArray[np.float64]
    """(groups, parts): how far chance put each group from each part; the nearest moves."""
    is_known: npt.NDArray[np.bool_] | None = None
    """(groups,): whether a group was in the last run; a new one moves first. None: all are new."""


def cover_classes(assigned: Ranks, incidence: Incidence, parts: Parts, required: Required) -> Ranks:
    """Move as few groups as possible, so that each class has a group in each part that it needs.

    What is not possible, because classes share groups or the source prescribes them, stays as it
    is.

    Args:
        assigned: The part of each group.
    """
    return _Coverage(assigned.copy(), incidence, parts, required).run()


class _Coverage:
    def __init__(
        self, assigned: Ranks, incidence: Incidence, parts: Parts, required: Required
    ) -> None:
        self._assigned = assigned
        self._incidence = incidence
        self._parts = parts
        self._required = required
        shape = (incidence.class_count, parts.allowed.shape[1])
        self._counts = np.zeros(shape, np.int32)  # groups of each class in each part
        is_used = assigned[incidence.groups] >= 0
        pairs = (incidence.classes[is_used], assigned[incidence.groups[is_used]])
        np.add.at(self._counts, pairs, 1)

    def run(self) -> Ranks:
        queue = [self._key(label) for label in self._incomplete_classes()]
        heapify(queue)
        while queue:
            _, label = heappop(queue)
            for part in self._missing(label):
                for broken in self._fill(label, part):
                    heappush(queue, self._key(broken))
        return self._assigned

    def _key(self, label: int) -> tuple[int, int]:
        return int(self._incidence.group_counts[label]), label

    def _missing(self, label: int) -> list[int]:
        groups = int(self._incidence.group_counts[label])
        return [part for part in self._required(label, groups) if not self._counts[label, part]]

    def _incomplete_classes(self) -> list[int]:
        candidates = np.flatnonzero((self._counts == 0).any(axis=1))
        return [int(label) for label in candidates if self._missing(int(label))]

    def _fill(self, label: int, part: int) -> list[int]:
        """Move a group of a class to a part; return the classes that lack a part for that."""
        best: tuple[tuple[object, ...], int, list[int]] | None = None
        for group in map(int, self._incidence.groups_of(label)):
            if not self._parts.allowed[group, part] or self._assigned[group] < 0:
                continue
            losing = self._losing(group)
            if any(self._key(other) <= self._key(label) for other in losing):
                continue
            is_known = self._parts.is_known is not None and bool(self._parts.is_known[group])
            rank = (len(losing), is_known, float(self._parts.distances[group, part]), group)
            if best is None or rank < best[0]:
                best = rank, group, losing
        if best is None:
            return []
        self._move(best[1], part)
        return best[2]

    def _losing(self, group: int) -> list[int]:
        """The classes that would lack a part without this group there."""
        part = int(self._assigned[group])
        labels = self._incidence.classes[self._incidence.pairs_of(group)]
        return [
            int(label)
            for label in labels
            if self._counts[label, part] == 1
            and part in self._required(int(label), int(self._incidence.group_counts[label]))
        ]

    def _move(self, group: int, part: int) -> None:
        labels = self._incidence.classes[self._incidence.pairs_of(group)]
        self._counts[labels, self._assigned[group]] -= 1
        self._counts[labels, part] += 1
        self._assigned[group] = part
