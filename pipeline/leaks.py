"""The gate for splits that a source prescribes: no image of one may be known from another."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline.grouping import Group

COLUMNS = ("id", "name", "label", "split", "kind", "stays_id", "stays_name", "stays_split")
RANK = {"test": 0, "val": 1, "train": 2}  # whose copy stays


class Kind(StrEnum):
    """How the copy is related to the one that stays."""

    DUPLICATE = "duplicate"  # the same bytes; the filter has left it out already
    NEAR_DUPLICATE = "near_duplicate"
    SAME_GROUP = "same_group"  # an owner's, or by a chain of owners and near-duplicates


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


@dataclass(frozen=True)
class Leak:
    """An image that must not be where the source puts it, since another one is in a later split."""

    image: Image
    kind: Kind
    stays: Image

    def line(self) -> tuple[str, ...]:
        """Of leaks.csv."""
        image, stays = self.image, self.stays
        return (image.id, image.name, image.label, image.split or "", self.kind.value,
                stays.id, stays.name, stays.split or "")  # fmt: skip


def of_group(group: Group, images: Sequence[Image]) -> list[Leak]:
    """The images of a group to leave out, so that the rest of it is in one split."""
    members = [images[row] for row in group.rows if images[row].split is not None]
    last = min((image.split for image in members), key=_rank, default=None)
    staying = [image for image in members if image.split == last]
    return [Leak(image, *_nearest(image, staying)) for image in members if image.split != last]


def _rank(split: str | None) -> int:
    assert split is not None
    return RANK[split]


def _nearest(image: Image, staying: Sequence[Image]) -> tuple[Kind, Image]:
    near = [other for other in staying if image.near is not None and other.near == image.near]
    return (Kind.NEAR_DUPLICATE, near[0]) if near else (Kind.SAME_GROUP, staying[0])
