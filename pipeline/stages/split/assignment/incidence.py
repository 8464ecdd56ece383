"""Which classes the images of each group have."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Incidence:
    """Pairs of a class and a group that has images of it, sorted by class, then by group."""

    group_count: int
    class_count: int
    classes: Int32s
    """(pairs,)"""
    groups: Int32s
    """(pairs,)"""
    sizes: Int32s
    """(pairs,) images."""

    @cached_property
    def group_counts(self) -> Int64s:
        """(classes,) groups with images of each class."""
        return np.bincount(self.classes, minlength=self.class_count)

    @cached_property
    def class_counts(self) -> Int64s:
        """(groups,) classes of each group."""
        return np.bincount(self.groups, minlength=self.group_count)

    @cached_property
    def _starts(self) -> Int64s:
        return np.concatenate([[0], self.group_counts.cumsum()])

    @cached_property
    def _by_group(self) -> tuple[Int64s, Int64s]:
        starts = np.concatenate([[0], self.class_counts.cumsum()])
        return np.argsort(self.groups, kind="stable"), starts

    def groups_of(self, label: int) -> Int32s:
        """The groups of a class, ascending."""
        return self.groups[self._starts[label] : self._starts[label + 1]]

    def pairs_of(self, group: int) -> Int64s:
        """Positions of the pairs of a group, by class."""
        order, starts = self._by_group
        return order[starts[group] : starts[group + 1]]

    def select(self, keep: npt.NDArray[np.bool_]) -> "Incidence":
        """Some of the pairs."""
        return Incidence(
            self.group_count,
            self.class_count,
            self.classes[keep],
            self.groups[keep],
            self.sizes[keep],
        )


def find_incidence(labels: Int32s, of_row: Int32s, class_count: int, group_count: int) -> Incidence:
    """The classes of each group.

    Args:
        labels: The class of each image.
        of_row: Its group.
    """
    pairs = labels.astype(np.int64) * max(group_count, 1) + of_row
    pairs, sizes = np.unique(pairs, return_counts=True)
    classes, groups = np.divmod(pairs, max(group_count, 1))
    return Incidence(
        group_count,
        class_count,
        classes.astype(np.int32),
        groups.astype(np.int32),
        sizes.astype(np.int32),
    )
