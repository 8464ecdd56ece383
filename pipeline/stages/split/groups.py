"""What must not straddle splits: images of one owner, and near-duplicates, and chains of both."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Group:
    """Images that share a split."""

    keys: list[str] = field(default_factory=list)
    """The owners (or whatever the source groups by) of its images, and the ids of those that have
    none: each has a place of its own, wherever it would go alone. Sorted."""
    rows: list[int] = field(default_factory=list)
    """Its images, in their order."""


def groups(
    ids: Sequence[str], owners: Sequence[str | None], near: Sequence[str | None]
) -> list[Group]:
    """The groups of images, in the order of their first ones.

    Args:
        ids: Of each image.
        owners: What the source groups by, or None.
        near: The name of the image's group of near-duplicates, or None.
    """
    first: dict[str, str] = {}  # a key, and one that it hangs together with

    def root(key: str) -> str:
        while (parent := first.setdefault(key, key)) != key:
            first[key] = first[parent]
            key = parent
        return key

    keys = [owner or key for key, owner in zip(ids, owners, strict=True)]
    one_of: dict[str, str] = {}  # a key of each group of near-duplicates
    for key, name in zip(keys, near, strict=True):
        if name is not None:
            first[root(key)] = root(one_of.setdefault(name, key))
    found: dict[str, Group] = {}
    for row, key in enumerate(keys):
        found.setdefault(root(key), Group()).rows.append(row)
    for group in found.values():
        group.keys = sorted({keys[row] for row in group.rows})
    return list(found.values())
