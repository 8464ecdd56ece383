"""The clean images, as the split sees them."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.core import shards
from pipeline.stages.split.groups import Group, groups


@dataclass(frozen=True)
class Image:
    """What the gate needs to know of one image."""

    id: str
    name: str
    label: str
    split: str | None
    """As the source prescribes."""
    near: str | None
    """Its group of near-duplicates."""


def read_images(clean: Path) -> tuple[list[Image], list[Group]]:
    """The clean images, and the groups that must not straddle splits."""
    table = shards.columns(clean, ["id", "name", "label", "split", "near_group", "group"])
    ids, names, labels, splits, near, owners = (column.to_pylist() for column in table.columns)
    images = [Image(*facts) for facts in zip(ids, names, labels, splits, near, strict=True)]
    return images, groups(ids, owners, near)
