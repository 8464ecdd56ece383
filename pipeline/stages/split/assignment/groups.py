"""Groups of images that must be in one split: of one owner, near-duplicates, and chains of both."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import columns
from pipeline.core.columns import Column

Numbers = npt.NDArray[np.int32]


@dataclass
class Group:
    """Images that share a split."""

    keys: list[str] = field(default_factory=list)
    """The owners of its images (or what else the source groups by), and the ids of images without
    one, sorted. Keys share a group only if near-duplicates link them."""
    rows: list[int] = field(default_factory=list)
    """Row numbers of its images, ascending."""


@dataclass(frozen=True)
class Groups:
    """All groups, as columns, numbered in the order of each group's first image."""

    keys: pa.Array
    """(K,) texts, those of all groups."""
    key_of_row: Numbers
    """(N,) positions in `keys`, by image."""
    of_key: Numbers
    """(K,) numbers of groups."""

    def __len__(self) -> int:
        return int(self.of_key.max(initial=-1)) + 1

    @property
    def of_row(self) -> Numbers:
        """(N,) numbers of groups, by image."""
        return self.of_key[self.key_of_row]

    def first_rows(self) -> npt.NDArray[np.int64]:
        """(groups,) the first image of each group."""
        first = np.full(len(self), len(self.key_of_row))
        np.minimum.at(first, self.of_row, np.arange(len(self.key_of_row)))
        return first

    def select(self, numbers: npt.NDArray[np.int64]) -> Iterator[Group]:
        """Yield some groups as objects, by number."""
        rows, of_row = np.argsort(self.of_row, kind="stable"), np.sort(self.of_row)
        starts = np.searchsorted(of_row, numbers)
        ends = np.searchsorted(of_row, numbers, side="right")
        for start, end in zip(starts, ends, strict=True):
            members = np.sort(rows[start:end])
            keys = {self.keys[int(key)].as_py() for key in self.key_of_row[members]}
            yield Group(sorted(keys), members.tolist())

    def __iter__(self) -> Iterator[Group]:
        return self.select(np.arange(len(self)))


def find_groups(ids: pa.Array, owners: pa.Array, near: Column) -> Groups:
    """Group images: the connected components of keys that near-duplicates link.

    Args:
        ids: The id of each image.
        owners: What the source groups each image by, or null.
        near: The name of each image's group of near-duplicates, or null.
    """
    owner_of_row = _encode_owners(ids, owners)
    first_rows = _first_rows(owner_of_row)
    near_of_row, _ = columns.encode(near)
    is_key = first_rows == np.arange(len(ids))
    key_of_row = (np.cumsum(is_key, dtype=np.int32) - 1)[first_rows]
    linked = np.flatnonzero(near_of_row >= 0)
    neighbours = _first_rows(near_of_row)[linked]
    roots = _components(int(is_key.sum()), key_of_row[linked], key_of_row[neighbours])
    # Keys are numbered by their first rows, and a root is the smallest key of its group.
    of_key = (np.cumsum(roots == np.arange(len(roots)), dtype=np.int32) - 1)[roots]
    return Groups(_keys(ids, owners, owner_of_row, is_key), key_of_row, of_key)


def _encode_owners(ids: pa.Array, owners: pa.Array) -> Numbers:
    """A number for each owner, by image; -1 for an image without one.

    An image without an owner whose id is another image's owner has that owner.
    """
    of_row, distinct = columns.encode(owners)
    by_id = columns.positions(ids, distinct)
    lengths = columns.numbers(pc.binary_length(distinct))
    has_owner = np.append(lengths > 0, False)[of_row]  # an empty owner is no owner
    return np.where(has_owner, of_row, by_id)


def _first_rows(codes: Numbers) -> Numbers:
    """The first row with the code of each row; the row itself where the code is -1."""
    rows = np.arange(len(codes), dtype=np.int32)
    first = np.full(codes.max(initial=-1) + 2, len(codes), np.int32)
    np.minimum.at(first, codes, rows)
    return np.where(codes >= 0, first[codes], rows)


def _keys(
    ids: pa.Array, owners: pa.Array, owner_of_row: Numbers, is_key: npt.NDArray[np.bool_]
) -> pa.Array:
    """The owner, or else the id, of each row that `is_key`; without a copy where these are all."""
    has_owner = owner_of_row[is_key] >= 0
    if not is_key.all():
        ids = ids.filter(columns.booleans(is_key))
    if not has_owner.any():
        return ids
    if not is_key.all():
        owners = owners.filter(columns.booleans(is_key))
    return pc.if_else(columns.booleans(has_owner), owners, ids)


def _components(count: int, left: Numbers, right: Numbers) -> Numbers:
    """The smallest member of the component of each of `count` nodes; `left` and `right` are edges.

    Roots hook onto smaller roots of their neighbours until no edge joins two. scipy gives the same
    components, but its import takes 0.2 s.
    """
    parents = np.arange(count, dtype=np.int32)
    while len(left):
        lower, higher = np.minimum(left, right), np.maximum(left, right)
        np.minimum.at(parents, higher, lower)
        while not np.array_equal(grandparents := parents[parents], parents):
            parents = grandparents
        left, right = parents[left], parents[right]
        crossing = left != right
        left, right = left[crossing], right[crossing]
    return parents
