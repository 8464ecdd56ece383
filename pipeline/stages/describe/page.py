"""Everything that data.html displays."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import LeakRow
from pipeline.core.verdicts_csv import VerdictRow
from pipeline.images import reject_list
from pipeline.images.gallery import GalleryImage, data_uri
from pipeline.images.header import MEANING, RejectReason
from pipeline.stages.describe import thumbnails
from pipeline.stages.describe.facts import (
    COLUMNS,
    LEFT_OUT,
    TOTAL,
    Bin,
    CleanRow,
    Data,
    SizeRange,
    count_classes,
    count_licences,
    count_reasons,
    count_warnings,
    has_two_labels,
    near_groups,
    rejected_by_reason,
    samples,
    shorter_side_histogram,
    size_ranges,
)

# Limits of the page; the tables under data/ have all.
MAX_SAMPLES = 8  # of each class
MAX_CLASSES = 100  # with samples
MAX_REJECTED = 1000  # of each reason
MAX_GROUPS = 200  # of near-duplicates
MAX_PER_GROUP = 12
MAX_LEAKS = 200
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
    classes: dict[str, Counter[str]]
    """By `columns`."""
    samples: dict[str, list[GalleryImage]]
    """By class."""
    classes_without_samples: int
    """Classes."""
    rejected: list[RejectedImages]
    warnings: dict[str, int]
    meaning: Mapping[str, str]
    """Of a warning."""
    group_count: int
    """Groups of near-duplicates."""
    groups: list[NearGroup]
    reject_lines: str
    """Lines for reject.csv: the images of groups with two labels."""
    leaks: list[LeakRow]
    more_leaks: int
    sizes: list[SizeRange]
    histogram: list[Bin]
    licences: dict[str, int]


def build_page(data: Data, origin: Origin, raw: Path, clean: Path) -> DataPage:
    """Collect the facts and draw the pictures."""
    rows: list[CleanRow] = data.clean.to_pylist()
    rejected = {
        reason: images[:MAX_REJECTED] for reason, images in rejected_by_reason(data).items()
    }
    groups, sample_rows = near_groups(rows), samples(rows, MAX_SAMPLES, MAX_CLASSES)
    gallery = _draw_gallery(data, rows, sample_rows, groups, rejected, raw=raw, clean=clean)
    counts = count_classes(data)
    total = sum(counts.values(), Counter())
    return DataPage(
        origin=origin,
        acquired=total[TOTAL],
        accepted=len(rows),
        splits={split: total[split] for split in SPLITS},
        columns=COLUMNS,
        classes=counts,
        samples={label: gallery.accepted(images) for label, images in sample_rows.items()},
        classes_without_samples=len(counts) - len(sample_rows),
        rejected=[
            _rejected_images(reason, count, gallery.rejected(rejected[reason]))
            for reason, count in count_reasons(data).items()
        ],
        warnings=count_warnings(data),
        meaning=MEANING,
        group_count=len(groups),
        groups=[_near_group(group, gallery) for group in groups[:MAX_GROUPS]],
        reject_lines=_reject_lines(groups[:MAX_GROUPS]),
        leaks=data.leaks[:MAX_LEAKS],
        more_leaks=max(0, len(data.leaks) - MAX_LEAKS),
        sizes=size_ranges(data.clean),
        histogram=shorter_side_histogram(data.clean),
        licences=count_licences(rows),
    )


@dataclass(frozen=True)
class _Gallery:
    """Turns rows into images on the page."""

    data: Data
    pictures: Mapping[str, bytes]
    """JPEGs by id."""
    accepted_names: Mapping[str, str]
    """Of accepted images, by id and by group of near-duplicates."""
    labels: Mapping[str, set[str]]
    """By id."""

    def accepted(self, rows: Sequence[CleanRow]) -> list[GalleryImage]:
        """Each with its split as the note."""
        split_of = self.data.split_of
        return [
            self._image(row["id"], row["name"], row["label"], split_of.get(row["id"], LEFT_OUT))
            for row in rows
        ]

    def rejected(self, rows: Sequence[VerdictRow]) -> list[GalleryImage]:
        """Each with details of the reason as the note."""
        return [self._image(row.id, row.name, row.label, self._note(row)) for row in rows]

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


def _draw_gallery(
    data: Data,
    rows: Sequence[CleanRow],
    sample_rows: Mapping[str, Sequence[CleanRow]],
    groups: Sequence[Sequence[CleanRow]],
    rejected: Mapping[str, Sequence[VerdictRow]],
    *,
    raw: Path,
    clean: Path,
) -> _Gallery:
    accepted = {row["id"] for images in sample_rows.values() for row in images}
    accepted |= {row["id"] for group in groups[:MAX_GROUPS] for row in group[:MAX_PER_GROUP]}
    drawable = {
        row.id
        for reason, images in rejected.items()
        if reason not in WITHOUT_PICTURE
        for row in images
    }
    pictures = thumbnails.draw_all(clean, accepted) | thumbnails.draw_all(raw, drawable)
    return _Gallery(data, pictures, _accepted_names(rows), _labels(data))


def _accepted_names(rows: Sequence[CleanRow]) -> dict[str, str]:
    by_group = {row["near_group"]: row["name"] for row in rows if row["near_group"]}
    return by_group | {row["id"]: row["name"] for row in rows}


def _labels(data: Data) -> dict[str, set[str]]:
    labels: dict[str, set[str]] = defaultdict(set)
    for row in data.verdicts:
        labels[row.id].add(row.label)
    return labels


def _rejected_images(reason: str, count: int, images: Sequence[GalleryImage]) -> RejectedImages:
    return RejectedImages(
        reason=reason,
        meaning=MEANING[reason],
        count=count,
        pictures=[image for image in images if image.picture],
        names=[image.name for image in images if not image.picture],
        more=count - len(images),
    )


def _near_group(group: Sequence[CleanRow], gallery: _Gallery) -> NearGroup:
    images = gallery.accepted(group[:MAX_PER_GROUP])
    return NearGroup(has_two_labels(group), images, len(group) - len(images))


def _reject_lines(groups: Sequence[Sequence[CleanRow]]) -> str:
    return reject_list.lines(
        (row["id"], f"{row['label']} {row['name']}")
        for group in groups
        if has_two_labels(group)
        for row in group
    )
