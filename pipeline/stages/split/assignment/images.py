"""The clean images, without their pixels, and their groups."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.core import columns, shards
from pipeline.core.columns import Codes
from pipeline.core.shards import SPLITS
from pipeline.stages.split.assignment.groups import Groups, find_groups

Ranks = npt.NDArray[np.int8]
"""Splits as positions in SPLITS, and -1 for none."""


@dataclass(frozen=True)
class Image:
    """A clean image."""

    id: str
    name: str
    label: str
    split: str | None
    """The split that the source prescribes, or None."""
    near: str | None
    """The name of its group of near-duplicates, or None."""


@dataclass(frozen=True)
class Images:
    """All clean images, as columns."""

    ids: pa.Array
    names: pa.ChunkedArray
    near: pa.ChunkedArray
    """The name of each image's group of near-duplicates, or null."""
    labels: Codes
    """Positions in `classes`."""
    classes: list[str]
    """Sorted."""
    splits: Ranks
    """The splits that the source prescribes."""

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, row: int) -> Image:
        """One of them as an object."""
        return Image(
            self.ids[row].as_py(),
            self.names[row].as_py(),
            self.classes[self.labels[row]],
            split_name(self.splits[row]),
            self.near[row].as_py(),
        )


def split_name(rank: int) -> str | None:
    """The split of a rank, or None for -1."""
    return SPLITS[rank] if rank >= 0 else None


def split_ranks(column: pa.Array | pa.ChunkedArray) -> Ranks:
    """Ranks of splits by name; -1 for null and for what is not a split."""
    codes, names = columns.encode_sorted(column)
    ranks = [SPLITS.index(name) if name in SPLITS else -1 for name in names]
    return np.array([*ranks, -1], np.int8)[codes]  # the last for null


def read_images(clean: Path) -> tuple[Images, Groups]:
    """Read the clean images, and group those that must share a split."""
    table = shards.columns(clean, ["id", "name", "label", "split", "near_group", "group"])
    labels, classes = columns.encode_sorted(table.column("label"))
    # In one piece: taking rows of many pieces joins them first, every time.
    ids, owners = (table.column(name).combine_chunks() for name in ("id", "group"))
    names, near = table.column("name"), table.column("near_group")
    splits = split_ranks(table.column("split"))
    del table  # which has the ids in pieces
    columns.release_memory()
    images = Images(ids, names, near, labels, classes, splits)
    return images, find_groups(ids, owners, near)
