"""Everything that data.html displays."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.core import columns
from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import LeakRow
from pipeline.core.verdicts_csv import VerdictRow
from pipeline.images import hand_lists
from pipeline.images.gallery import GalleryImage, data_uri
from pipeline.images.header import MEANING, RejectReason
from pipeline.stages.describe import thumbnails
from pipeline.stages.describe.facts import (
    COLUMNS,
    LEFT_OUT,
    TOTAL,
    Bin,
    ClassCounts,
    CleanRow,
    Counts,
    Data,
    NearGroups,
    SizeRange,
    count_licences,
    has_two_labels,
    rejected_by_reason,
    samples,
    select_classes,
    shorter_side_histogram,
    size_ranges,
)

# Limits of the page, which stays below 2 MB; the tables under data/ have all.
MAX_CLASSES = 100
MAX_SAMPLE_CLASSES = 40
MAX_SAMPLES = 8  # of each class
MAX_ALL_SAMPLES = 80
MAX_REJECTED = 100  # of each reason
MAX_GROUPS = 100  # of near-duplicates
MAX_PER_GROUP = 12
MAX_REJECT_LINES = 500
MAX_LEAKS = 200
MAX_LICENCES = 50
MAX_RELABELLED = 50  # pairs of labels
# Of the pictures of each part, in base64; a thumbnail of a photograph has 5 to 11 kB.
SAMPLE_BYTES = 800_000
REJECTED_BYTES = 500_000
GROUP_BYTES = 400_000
WITHOUT_PICTURE = {
    RejectReason.EMPTY,
    RejectReason.NOT_AN_IMAGE,
    RejectReason.TOO_MANY_PIXELS,
    RejectReason.UNSUPPORTED,
    RejectReason.BREAKS_DECODER,
}


@dataclass(frozen=True)
class RejectedImages:
    """Images rejected for one reason."""

    reason: str
    meaning: str
    count: int
    pictures: list[GalleryImage]
    names: list[str]
    """Of images without a picture."""
    more: int
    """Images that the page leaves out."""


@dataclass(frozen=True)
class NearGroup:
    """A group of near-duplicates."""

    has_two_labels: bool
    images: list[GalleryImage]
    more: int
    """Images that the page leaves out."""


@dataclass(frozen=True)
class Relabelled:
    """Images with one label in the source and another in relabel.csv."""

    source_label: str
    label: str
    count: int


@dataclass(frozen=True)
class Origin:
    """Where the images come from."""

    name: str
    """Of the data set."""
    source: str
    """The address that the params name, or empty."""
    deviation: str
    """How the images differ from those that the data set describes, or empty."""


@dataclass(frozen=True)
class DataPage:
    """The facts of data.html. Counts are of images, unless stated otherwise."""

    origin: Origin
    acquired: int
    accepted: int
    splits: dict[str, int]
    columns: Sequence[str]
    classes: ClassCounts
    """By `columns`: the largest and the smallest, where there are many."""
    more_classes: int
    """Classes that the page leaves out."""
    samples: dict[str, list[GalleryImage]]
    """By class."""
    classes_without_samples: int
    """Classes."""
    rejected: list[RejectedImages]
    warnings: dict[str, int]
    meaning: Mapping[str, str]
    """Of a warning."""
    relabelled: list[Relabelled]
    more_relabelled: int
    """Images that the page leaves out."""
    group_count: int
    """Groups of near-duplicates."""
    groups: list[NearGroup]
    reject_lines: str
    """Lines for reject.csv: the images of groups with two labels."""
    leaks: Sequence[LeakRow]
    more_leaks: int
    sizes: list[SizeRange]
    histogram: list[Bin]
    licences: dict[str, int]
    more_licences: int
    """Licences that the page leaves out."""


def build_page(data: Data, counts: Counts, origin: Origin, raw: Path, clean: Path) -> DataPage:
    """Collect the facts and draw the pictures."""
    total = counts.total
    selection = _select(data, counts.classes)
    gallery = _draw_gallery(data, selection, raw=raw, clean=clean)
    licences, more_licences = count_licences(data.clean, MAX_LICENCES)
    classes = select_classes(counts.classes, MAX_CLASSES)
    shown_samples = gallery.samples()
    relabelled = [Relabelled(*labels, count) for labels, count in counts.relabelled.items()]
    return DataPage(
        origin=origin,
        acquired=total[TOTAL],
        accepted=data.clean.num_rows,
        splits={split: total[split] for split in SPLITS},
        columns=COLUMNS,
        classes={label: counts.classes[label] for label in classes},
        more_classes=len(counts.classes) - len(classes),
        samples=shown_samples,
        classes_without_samples=len(counts.classes) - len(shown_samples),
        rejected=[gallery.rejected(reason, count) for reason, count in counts.reasons.items()],
        warnings=counts.warnings,
        meaning=MEANING,
        relabelled=relabelled[:MAX_RELABELLED],
        more_relabelled=sum(images.count for images in relabelled[MAX_RELABELLED:]),
        group_count=len(selection.near),
        groups=gallery.near_groups(),
        reject_lines=_reject_lines(data, selection.near),
        leaks=data.leaks[:MAX_LEAKS],
        more_leaks=max(0, data.leak_count - MAX_LEAKS),
        sizes=size_ranges(data.clean),
        histogram=shorter_side_histogram(data.clean),
        licences=licences,
        more_licences=more_licences,
    )


@dataclass(frozen=True)
class _Selection:
    """The images that may have a picture."""

    samples: Mapping[str, Sequence[CleanRow]]
    """By class."""
    near: NearGroups
    groups: Sequence[Sequence[CleanRow]]
    """The first images of the first groups of near-duplicates."""
    rejected: Mapping[str, Sequence[VerdictRow]]
    """By reason."""

    def accepted_ids(self) -> set[str]:
        parts = (*self.samples.values(), *self.groups)
        return {row["id"] for rows in parts for row in rows}

    def rejected_ids(self) -> set[str]:
        return {row.id for rows in self.rejected.values() for row in rows}

    def drawable_ids(self) -> set[str]:
        """Of rejected images that have a picture."""
        return {
            row.id
            for reason, rows in self.rejected.items()
            if reason not in WITHOUT_PICTURE
            for row in rows
        }


def _select(data: Data, counts: ClassCounts) -> _Selection:
    classes = select_classes(counts, MAX_SAMPLE_CLASSES)
    per_class = min(MAX_SAMPLES, MAX_ALL_SAMPLES // max(1, len(classes)))
    near = NearGroups(data.clean)
    groups = (near.rows(group)[:MAX_PER_GROUP] for group in range(min(len(near), MAX_GROUPS)))
    return _Selection(
        {
            label: data.clean_rows(rows)
            for label, rows in samples(data.clean, per_class, classes).items()
        },
        near,
        [data.clean_rows(rows) for rows in groups],
        rejected_by_reason(data.verdicts(), MAX_REJECTED),
    )


@dataclass(frozen=True)
class _Gallery:
    """Turns rows into images on the page."""

    data: Data
    selection: _Selection
    pictures: Mapping[str, bytes]
    """JPEGs by id."""
    split_of: Mapping[str, str]
    """By id, of accepted images."""
    accepted_names: Mapping[str, str]
    """Of accepted images, by id and by group of near-duplicates."""
    labels: Mapping[str, set[str]]
    """By id, of rejected images."""

    def samples(self) -> dict[str, list[GalleryImage]]:
        """By class, as many classes as fit."""
        classes = {label: self._accepted(rows) for label, rows in self.selection.samples.items()}
        fitting = _fitting(list(classes.values()), SAMPLE_BYTES)
        return dict(list(classes.items())[:fitting])

    def near_groups(self) -> list[NearGroup]:
        """As many as fit."""
        groups = [self._accepted(rows) for rows in self.selection.groups]
        return [
            NearGroup(has_two_labels(rows), images, len(self.selection.near.rows(n)) - len(images))
            for n, (rows, images) in enumerate(
                zip(self.selection.groups, groups[: _fitting(groups, GROUP_BYTES)], strict=False)
            )
        ]

    def rejected(self, reason: str, count: int) -> RejectedImages:
        """Images of one reason, as many as fit; each with details of the reason as the note."""
        rows = self.selection.rejected.get(reason, [])
        images = [self._image(row.id, row.name, row.label, self._note(row)) for row in rows]
        limit = REJECTED_BYTES // len(self.selection.rejected)
        images = images[: _fitting([[image] for image in images], limit)]
        return RejectedImages(
            reason=reason,
            meaning=MEANING[reason],
            count=count,
            pictures=[image for image in images if image.picture],
            names=[image.name for image in images if not image.picture],
            more=count - len(images),
        )

    def _accepted(self, rows: Sequence[CleanRow]) -> list[GalleryImage]:
        """Each with its split as the note."""
        return [
            self._image(
                row["id"], row["name"], row["label"], self.split_of.get(row["id"], LEFT_OUT)
            )
            for row in rows
        ]

    def _note(self, row: VerdictRow) -> str:
        match row.reason:
            case RejectReason.BY_HAND:
                return self.data.why.get(row.id, "")
            case RejectReason.CONFLICTING_LABELS:
                return "also " + ", ".join(sorted(self.labels[row.id] - {row.label}))
            case RejectReason.NEAR_DUPLICATE:
                return f"like {self.accepted_names.get(row.near_group, 'another')}"
            case RejectReason.DUPLICATE:
                return f"same as {self.accepted_names.get(row.id, 'another')}"
        return ""

    def _image(self, key: str, name: str, label: str, note: str) -> GalleryImage:
        return GalleryImage(key, name, label, data_uri(self.pictures.get(key)), note)


def _fitting(parts: Sequence[Sequence[GalleryImage]], limit: int) -> int:
    """How many of the first parts have pictures of at most `limit` bytes; at least one."""
    sizes = np.array([sum(len(image.picture) for image in part) for part in parts], int)
    return max(1, int((sizes.cumsum() <= limit).sum()))


def _draw_gallery(data: Data, selection: _Selection, *, raw: Path, clean: Path) -> _Gallery:
    accepted = selection.accepted_ids()
    pictures = thumbnails.draw_all(clean, accepted)
    pictures |= thumbnails.draw_all(raw, selection.drawable_ids())
    return _Gallery(
        data,
        selection,
        pictures,
        {row.id: row.split for row in data.splits() if row.id in accepted},
        _accepted_names(data.clean, selection),
        _labels(data.verdicts(), selection.rejected_ids()),
    )


def _accepted_names(clean: pa.Table, selection: _Selection) -> dict[str, str]:
    """The names of the images that rejected ones are copies of or like."""
    rejected = [row for rows in selection.rejected.values() for row in rows]
    near, last_rows = selection.near, np.zeros(len(selection.near.names), np.int64)
    rows = np.flatnonzero(near.of_row >= 0)
    last_rows[near.of_row[rows]] = rows
    groups = columns.positions(columns.texts([row.near_group for row in rejected]), near.names)
    originals = columns.positions(columns.texts([row.id for row in rejected]), clean.column("id"))
    names = clean.column("name")
    by_group = {
        row.near_group: names[int(last_rows[group])].as_py()
        for row, group in zip(rejected, groups.tolist(), strict=True)
        if group >= 0
    }
    by_id = {
        row.id: names[original].as_py()
        for row, original in zip(rejected, originals.tolist(), strict=True)
        if original >= 0
    }
    return by_group | by_id


def _labels(verdicts: Iterable[VerdictRow], ids: set[str]) -> dict[str, set[str]]:
    labels: dict[str, set[str]] = defaultdict(set)
    for row in verdicts:
        if row.id in ids:
            labels[row.id].add(row.label)
    return labels


def _reject_lines(data: Data, near: NearGroups) -> str:
    """Lines for reject.csv: the images of the first groups with two labels."""
    groups = [near.rows(group) for group in range(min(near.two_label_count, MAX_GROUPS))]
    rows = np.concatenate([*groups, np.zeros(0, np.int64)])[:MAX_REJECT_LINES]
    return hand_lists.format_rejects(
        (row["id"], f"{row['label']} {row['name']}") for row in data.clean_rows(rows)
    )
