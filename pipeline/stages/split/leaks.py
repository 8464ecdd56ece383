"""The gate for splits that a source prescribes: no image of one may be known from another."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.core.leaks_csv import LeakRow, write_leaks
from pipeline.core.shards import lateness
from pipeline.core.terminal import printable
from pipeline.core.verdicts_csv import VerdictRow
from pipeline.params import SplitParams
from pipeline.stages.split.groups import Group
from pipeline.stages.split.images import Image


class Kind(StrEnum):
    """How the copy is related to the one that stays."""

    DUPLICATE = "duplicate"  # the same bytes; the filter has left it out already
    NEAR_DUPLICATE = "near_duplicate"
    SAME_GROUP = "same_group"  # an owner's, or by a chain of owners and near-duplicates


LEFT_OUT = {"duplicate", "near_duplicate"}  # by the filter, for these reasons
NAMED = 5  # leaks that are told one by one; the file has all


@dataclass(frozen=True)
class Leak:
    """An image that must not be where the source puts it, since another one is in a later split."""

    image: Image
    kind: Kind
    stays: Image

    def row(self) -> LeakRow:
        """As a row of leaks.csv."""
        image, stays = self.image, self.stays
        return LeakRow(
            image.id,
            image.name,
            image.label,
            image.split or "",
            self.kind.value,
            stays.id,
            stays.name,
            stays.split or "",
        )


def of_group(group: Group, images: Sequence[Image]) -> list[Leak]:
    """The images of a group to leave out, so that the rest of it is in one split."""
    members = [images[row] for row in group.rows if images[row].split is not None]
    last = max((image.split for image in members), key=lateness, default=None)
    staying = [image for image in members if image.split == last]
    return [Leak(image, *_nearest(image, staying)) for image in members if image.split != last]


def _nearest(image: Image, staying: Sequence[Image]) -> tuple[Kind, Image]:
    near = [other for other in staying if image.near is not None and other.near == image.near]
    return (Kind.NEAR_DUPLICATE, near[0]) if near else (Kind.SAME_GROUP, staying[0])


def find(
    found: Sequence[Group], images: Sequence[Image], verdicts: Sequence[VerdictRow]
) -> list[Leak]:
    """What stands in several of the splits that the source prescribes.

    Args:
        verdicts: The rows of verdicts.csv: of copies the filter may have left one already.
    """
    stays_of: dict[tuple[Kind, str | None], Image] = {}
    for image in images:
        for key in ((Kind.DUPLICATE, image.id), (Kind.NEAR_DUPLICATE, image.near)):
            if key[1] is not None and image.split is not None:
                latest = max(stays_of.get(key, image), image, key=lambda one: lateness(one.split))
                stays_of[key] = latest
    left_out = [row for row in verdicts if row.reason in LEFT_OUT]
    # A copy may be that of an image which was left out as a near-duplicate itself.
    near = {row.id: row.near_group for row in left_out if row.near_group}
    copies = []
    for row in left_out:
        kind = Kind.DUPLICATE
        stays = stays_of.get((kind, row.id))
        if stays is None:
            kind = Kind.NEAR_DUPLICATE
            stays = stays_of.get((kind, near.get(row.id)))
        if stays and row.split and stays.split != row.split:
            image = Image(row.id, row.name, row.label, row.split, None)
            copies.append(Leak(image, kind, stays))
    return copies + [leak for group in found for leak in of_group(group, images)]


def gate(found: Sequence[Leak], params: SplitParams, leaks_csv: Path) -> None:
    """Write down and tell what leaks.

    Raises:
        PipelineError: something does, and `split.leaks` is fail.
    """
    write_leaks(leaks_csv, (leak.row() for leak in found))
    if not found:
        return
    said = f"{len(found)} of the source's images stand in a later one of its splits too"
    if params.leaks == "fail":
        raise PipelineError(
            f"{said} ({leaks_csv}): mend the source, or leave them out with split.leaks=drop"
        )
    print(f"split: {said}, and are not used; see {leaks_csv}:")
    for leak in found[:NAMED]:
        print(printable(f"  {leak.image.name} ({leak.kind.value} of {leak.stays.name})"))
