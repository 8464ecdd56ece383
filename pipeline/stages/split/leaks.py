"""Leaks between the splits that a source prescribes: one image, or one group, in several."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.core.shards import split_rank
from pipeline.core.split_csv import LeakRow, write_leaks
from pipeline.core.terminal import print_line
from pipeline.core.verdicts_csv import VerdictRow
from pipeline.params import SplitParams
from pipeline.stages.split.groups import Group
from pipeline.stages.split.images import Image


class Kind(StrEnum):
    """How the image that is left out is related to the one that stays."""

    DUPLICATE = "duplicate"  # the same bytes; the filter has left it out already
    NEAR_DUPLICATE = "near_duplicate"
    SAME_GROUP = "same_group"  # the same owner, or a chain of owners and near-duplicates


COPY_REASONS = {"duplicate", "near_duplicate"}  # reasons of the filter to reject a copy
MAX_PRINTED = 5  # leaks on the terminal; leaks.csv has all


@dataclass(frozen=True)
class Leak:
    """An image that is left out, because a related one is in a later split."""

    image: Image
    kind: Kind
    stays: Image
    """The related image."""

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


def find_leaks(
    groups: Sequence[Group], images: Sequence[Image], verdicts: Sequence[VerdictRow]
) -> list[Leak]:
    """Find the images to leave out, so that no group is in several prescribed splits.

    Args:
        verdicts: Rows of verdicts.csv: the filter has already rejected some copies.
    """
    leaks = _rejected_copies(images, verdicts)
    return leaks + [leak for group in groups for leak in find_group_leaks(group, images)]


def _rejected_copies(images: Sequence[Image], verdicts: Sequence[VerdictRow]) -> list[Leak]:
    """Copies that the filter rejected, of images that stay in a later split."""
    stays_of = _latest_images(images)
    rejected = [row for row in verdicts if row.reason in COPY_REASONS]
    # The original of a duplicate may itself be rejected as a near-duplicate.
    near_groups = {row.id: row.near_group for row in rejected if row.near_group}
    leaks = []
    for row in rejected:
        kind = Kind.DUPLICATE
        stays = stays_of.get((kind, row.id))
        if stays is None:
            kind = Kind.NEAR_DUPLICATE
            stays = stays_of.get((kind, near_groups.get(row.id)))
        if stays and row.split and stays.split != row.split:
            image = Image(row.id, row.name, row.label, row.split, None)
            leaks.append(Leak(image, kind, stays))
    return leaks


def _latest_images(images: Sequence[Image]) -> dict[tuple[Kind, str | None], Image]:
    """By id, and by group of near-duplicates: the first image of those in the latest split."""
    latest: dict[tuple[Kind, str | None], Image] = {}
    for image in images:
        for key in ((Kind.DUPLICATE, image.id), (Kind.NEAR_DUPLICATE, image.near)):
            if key[1] is not None and image.split is not None:
                known = latest.setdefault(key, image)
                if split_rank(image.split) > split_rank(known.split):
                    latest[key] = image
    return latest


def find_group_leaks(group: Group, images: Sequence[Image]) -> list[Leak]:
    """Find the images of a group to leave out, so that the rest is in one split."""
    members = [images[row] for row in group.rows if images[row].split is not None]
    last = max((image.split for image in members), key=split_rank, default=None)
    staying = [image for image in members if image.split == last]
    return [Leak(image, *_relation(image, staying)) for image in members if image.split != last]


def _relation(image: Image, staying: Sequence[Image]) -> tuple[Kind, Image]:
    near = [other for other in staying if image.near is not None and other.near == image.near]
    return (Kind.NEAR_DUPLICATE, near[0]) if near else (Kind.SAME_GROUP, staying[0])


def handle_leaks(leaks: Sequence[Leak], params: SplitParams, leaks_csv: Path) -> None:
    """Write leaks.csv, and print the first leaks.

    Raises:
        PipelineError: there are leaks, and `split.leaks` is fail.
    """
    write_leaks(leaks_csv, (leak.row() for leak in leaks))
    if not leaks:
        return
    summary = f"{len(leaks)} images of the source are in a later split of the source too"
    if params.leaks == "fail":
        raise PipelineError(
            f"{summary} ({leaks_csv}): correct the source, or leave them out with split.leaks=drop"
        )
    print_line(f"split: {summary}, and are not used; see {leaks_csv}:")
    for leak in leaks[:MAX_PRINTED]:
        print_line(f"  {leak.image.name} ({leak.kind.value} of {leak.stays.name})")
