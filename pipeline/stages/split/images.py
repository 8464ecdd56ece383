"""The clean images, without their pixels, and their groups."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.core import shards
from pipeline.stages.split.groups import Group, find_groups


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


def read_images(clean: Path) -> tuple[list[Image], list[Group]]:
    """Read the clean images, and group those that must share a split."""
    table = shards.columns(clean, ["id", "name", "label", "split", "near_group", "group"])
    ids, names, labels, splits, near, owners = (column.to_pylist() for column in table.columns)
    images = [Image(*facts) for facts in zip(ids, names, labels, splits, near, strict=True)]
    return images, find_groups(ids, owners, near)
