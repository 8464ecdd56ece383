"""Leaks between the splits that a source prescribes: one image, or one group, in several."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import columns, csv_table
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.shards import array, split_rank
from pipeline.core.split_csv import LeakRow, write_leaks
from pipeline.core.terminal import print_line
from pipeline.core.verdicts_csv import VerdictRow
from pipeline.params import SplitParams
from pipeline.stages.split.assignment.groups import Groups
from pipeline.stages.split.assignment.images import Image, Images, Ranks, split_name


class LeakKind(StrEnum):
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
    kind: LeakKind
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
    groups: Groups, images: Images, verdicts: Iterable[VerdictRow], params: SplitParams
) -> Iterator[Leak]:
    """Yield the images to leave out, so that no group is in several prescribed splits.

    With `split.leaks=keep`, they are only those that the filter has already left out.

    Args:
        verdicts: Rows of verdicts.csv: the filter has already rejected some copies.
    """
    if not params.prescribed or (images.splits < 0).all():
        return
    yield from _rejected_copies(images, verdicts)
    if params.leaks == "keep":
        return
    for group in groups.select(_groups_in_several_splits(groups, images)):
        yield from find_group_leaks([images.image(row) for row in group.rows])


def _groups_in_several_splits(groups: Groups, images: Images) -> npt.NDArray[np.int64]:
    rows = np.flatnonzero(images.splits >= 0)
    of_row, splits = groups.of_row[rows], images.splits[rows]
    last = np.full(len(groups), -1, np.int8)
    np.maximum.at(last, of_row, splits)
    return np.unique(of_row[splits < last[of_row]])


def _rejected_copies(images: Images, verdicts: Iterable[VerdictRow]) -> Iterator[Leak]:
    """Copies that the filter rejected, of images that stay in a later split."""
    rejected = csv_table.collect(
        VerdictRow, (row for row in verdicts if row.reason in COPY_REASONS)
    )
    ids = rejected.column("id")
    originals = columns.positions(ids, images.ids)
    near = _latest_of_groups(images, _near_groups(ids, rejected.column("near_group")))
    for row, original, latest in zip(rejected, originals, near, strict=True):
        is_kept = original >= 0 and images.splits[original] >= 0
        kind, number = (
            (LeakKind.DUPLICATE, original) if is_kept else (LeakKind.NEAR_DUPLICATE, latest)
        )
        if number >= 0 and row.split and split_name(images.splits[number]) != row.split:
            image = Image(row.id, row.name, row.label, row.split, None)
            yield Leak(image, kind, images.image(number))


def _near_groups(ids: pa.ChunkedArray, names: pa.ChunkedArray) -> pa.StringArray:
    """The group of near-duplicates of each rejected image, or "".

    The original of a duplicate may itself be rejected as a near-duplicate: then the duplicate,
    which has no group, is in its group.
    """
    is_near = pc.cast(pc.binary_length(names), pa.bool_())
    near = columns.contiguous(names.filter(is_near))
    rows = columns.positions(ids, columns.contiguous(ids.filter(is_near)))
    named = pa.concat_arrays([near, columns.texts([""])])
    return named.take(array(np.where(rows < 0, len(near), rows)))


def _latest_of_groups(images: Images, names: pa.StringArray) -> npt.NDArray[np.int64]:
    """The first image of those in the latest split, of each group of near-duplicates; or -1."""
    of_row = columns.positions(images.near, names.unique())
    rows = np.flatnonzero((of_row >= 0) & (images.splits >= 0))
    order = np.lexsort((-rows, images.splits[rows]))  # the last of each group stays
    latest = np.full(len(names) + 1, -1)
    latest[of_row[rows[order]]] = rows[order]
    return latest[columns.positions(names, names.unique())]


def find_group_leaks(images: Sequence[Image]) -> list[Leak]:
    """Find the images of a group to leave out, so that the rest is in one split."""
    members = [image for image in images if image.split is not None]
    last = max((image.split for image in members), key=split_rank, default=None)
    staying = [image for image in members if image.split == last]
    near = {image.near: image for image in reversed(staying)}  # the first of each
    return [
        Leak(image, LeakKind.NEAR_DUPLICATE, near[image.near])
        if image.near is not None and image.near in near
        else Leak(image, LeakKind.SAME_GROUP, staying[0])
        for image in members
        if image.split != last
    ]


def handle_leaks(leaks: Iterable[Leak], params: SplitParams, leaks_csv: Path) -> None:
    """Write leaks.csv, and print the first leaks.

    Raises:
        PipelineError: there are leaks, and `split.leaks` is fail.
    """
    count, first = 0, list[Leak]()

    def rows() -> Iterator[LeakRow]:
        nonlocal count
        for count, leak in enumerate(leaks, start=1):
            if count <= MAX_PRINTED:
                first.append(leak)
            yield leak.row()

    write_leaks(leaks_csv, rows())
    if not count:
        return
    images = plural(count, "image of the source is", "images of the source are")
    summary = f"{images} in a later split of the source too"
    if params.leaks == "fail":
        raise PipelineError(
            f"{summary} ({leaks_csv}): correct the source, or leave out such images with "
            "split.leaks=drop"
        )
    print_line(f"split: {summary}, and not used; see {leaks_csv}:")
    for leak in first:
        print_line(f"  {leak.image.name} ({leak.kind.value} of {leak.stays.name})")


def keep_leaks(splits: Ranks, images: Images, params: SplitParams) -> Ranks:
    """With `split.leaks=keep`, put images that would be left out where the source has them.

    Args:
        splits: (N,) Of all images, -1 where one is left out.
    """
    if not params.prescribed or params.leaks != "keep":
        return splits
    is_leak = (splits < 0) & (images.splits >= 0)
    if count := int(is_leak.sum()):
        have = plural(count, "image has", "images have")
        print_line(
            f"split: {have} others of the same group in a later split of the source, and stay "
            "(split.leaks=keep): the report has the accuracy with and without such test images"
        )
    return np.where(is_leak, images.splits, splits)
