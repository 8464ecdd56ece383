"""The images on data.html, as many as fit, and their pictures."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.core import columns
from pipeline.core.verdicts_csv import VerdictRow
from pipeline.images.gallery import GalleryImage, data_uri
from pipeline.images.header import MEANING, RejectReason
from pipeline.stages.describe import thumbnails
from pipeline.stages.describe.facts import (
    LEFT_OUT,
    CleanRow,
    CountsByClass,
    Data,
    NearGroups,
    has_two_labels,
    rejected_by_reason,
    samples,
    select_classes,
)

# Limits of the page, beside those of page.py.
MAX_SAMPLE_CLASSES = 40
MAX_SAMPLES = 8  # of each class
MAX_ALL_SAMPLES = 56
MAX_REJECTED = 100  # of each reason
MAX_GROUPS = 100  # of near-duplicates
MAX_PER_GROUP = 12
# Of the pictures of each part, in base64; a photograph has 7 to 20 kB.
SAMPLE_BYTES = 800_000
REJECTED_BYTES = 450_000
GROUP_BYTES = 500_000
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
    differences: list[str]
    """In what the images on the page differ, beside their names."""
    images: list[GalleryImage]
    more: int
    """Images that the page leaves out."""


@dataclass(frozen=True)
class Selection:
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


def select_images(data: Data, counts: CountsByClass) -> Selection:
    """The samples of each class, and the first rejected images and near-duplicates."""
    classes = select_classes(counts, MAX_SAMPLE_CLASSES)
    per_class = min(MAX_SAMPLES, MAX_ALL_SAMPLES // max(1, len(classes)))
    near = NearGroups(data.clean)
    groups = (near.rows(group)[:MAX_PER_GROUP] for group in range(min(len(near), MAX_GROUPS)))
    return Selection(
        {
            label: data.clean_rows(rows)
            for label, rows in samples(data.clean, per_class, classes).items()
        },
        near,
        [data.clean_rows(rows) for rows in groups],
        rejected_by_reason(data.verdicts(), MAX_REJECTED),
    )


@dataclass(frozen=True)
class Gallery:
    """Turns rows into images on the page."""

    data: Data
    selection: Selection
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
        groups = [self._accepted(rows, with_size=True) for rows in self.selection.groups]
        return [
            NearGroup(
                has_two_labels(rows),
                self._differences(rows),
                images,
                len(self.selection.near.rows(n)) - len(images),
            )
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

    def _accepted(self, rows: Sequence[CleanRow], with_size: bool = False) -> list[GalleryImage]:
        """Each with its split, and perhaps its size in pixels, as the note."""
        return [
            self._image(
                row["id"],
                row["name"],
                row["label"],
                self._split(row) + (f" · {_size(row)}" if with_size else ""),
            )
            for row in rows
        ]

    def _differences(self, rows: Sequence[CleanRow]) -> list[str]:
        facts = {
            "label": {row["label"] for row in rows},
            "split": {self._split(row) for row in rows},
            "size": {_size(row) for row in rows},
        }
        return [name for name, values in facts.items() if len(values) > 1]

    def _split(self, row: CleanRow) -> str:
        return self.split_of.get(row["id"], LEFT_OUT)

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


def _size(row: CleanRow) -> str:
    """In pixels, as stored."""
    return f"{row['width']} x {row['height']}"


def _fitting(parts: Sequence[Sequence[GalleryImage]], limit: int) -> int:
    """How many of the first parts have pictures of at most `limit` bytes; at least one."""
    sizes = np.array([sum(len(image.picture) for image in part) for part in parts], int)
    return max(1, int((sizes.cumsum() <= limit).sum()))


def draw_gallery(data: Data, selection: Selection, *, raw: Path, clean: Path) -> Gallery:
    """Draw the pictures, and look up what the page says of each image."""
    accepted = selection.accepted_ids()
    pictures = thumbnails.draw_all(clean, accepted)
    pictures |= thumbnails.draw_all(raw, selection.drawable_ids())
    return Gallery(
        data,
        selection,
        pictures,
        {row.id: row.split for row in data.splits() if row.id in accepted},
        _accepted_names(data.clean, selection),
        _labels(data.verdicts(), selection.rejected_ids()),
    )


def _accepted_names(clean: pa.Table, selection: Selection) -> dict[str, str]:
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
