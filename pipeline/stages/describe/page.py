"""Everything that data.html displays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import LeakRow
from pipeline.images import hand_lists
from pipeline.images.gallery import GalleryImage
from pipeline.images.header import MEANING
from pipeline.stages.describe.facts import (
    COLUMNS,
    TOTAL,
    Bin,
    CountsByClass,
    Data,
    ImageCounts,
    NearGroups,
    SizeRange,
    count_licences,
    select_classes,
    shorter_side_histogram,
    size_ranges,
)
from pipeline.stages.describe.page_images import (
    MAX_GROUPS,
    NearGroup,
    RejectedImages,
    draw_gallery,
    select_images,
)
from pipeline.stages.describe.skipped import SkippedItems

# Limits of the page, beside those of page_images.py: it stays below 2 MB, and data/ has all.
MAX_CLASSES = 100
MAX_HEADINGS = 12  # classes whose samples have a heading each; those of more stand together
MAX_REJECT_LINES = 500
MAX_LEAKS = 200
MAX_LICENCES = 50
MAX_RELABELLED = 50  # pairs of labels


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
    """What the params name as the source, without its folders, or empty."""
    deviation: str
    """How the images differ from those that the data set describes, or empty."""


@dataclass(frozen=True)
class DataPage:
    """The facts of data.html. Counts are of images, unless stated otherwise."""

    origin: Origin
    skipped: list[SkippedItems]
    """What the source lists and was not acquired, by reason."""
    acquired: int
    accepted: int
    splits: dict[str, int]
    columns: Sequence[str]
    classes: CountsByClass
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
    max_headings: int = MAX_HEADINGS


def build_page(
    data: Data,
    counts: ImageCounts,
    origin: Origin,
    skipped: list[SkippedItems],
    raw: Path,
    clean: Path,
) -> DataPage:
    """Collect the facts and draw the pictures."""
    total = counts.total
    selection = select_images(data, counts.classes)
    gallery = draw_gallery(data, selection, raw=raw, clean=clean)
    licences, more_licences = count_licences(data.clean, MAX_LICENCES)
    classes = select_classes(counts.classes, MAX_CLASSES)
    shown_samples = gallery.samples()
    relabelled = [Relabelled(*labels, count) for labels, count in counts.relabelled.items()]
    return DataPage(
        origin=origin,
        skipped=skipped,
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


def _reject_lines(data: Data, near: NearGroups) -> str:
    """Lines for reject.csv: the images of the first groups with two labels."""
    groups = [near.rows(group) for group in range(min(near.two_label_count, MAX_GROUPS))]
    rows = np.concatenate([*groups, np.zeros(0, np.int64)])[:MAX_REJECT_LINES]
    return hand_lists.format_rejects(
        (row["id"], f"{row['label']} {row['name']}") for row in data.clean_rows(rows)
    )
