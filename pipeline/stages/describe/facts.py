"""Counts and selections for the page of the data and its summary."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import LeakRow
from pipeline.core.verdicts_csv import VerdictRow
from pipeline.images.header import RejectReason

LEFT_OUT, REJECTED, TOTAL = "left out", "rejected", "acquired"
COLUMNS = (*SPLITS, LEFT_OUT, REJECTED, TOTAL)
CLEAN_COLUMNS = ["id", "name", "label", "width", "height", "licence", "near_group"]
MAX_BINS = 12

CleanRow = Mapping[str, Any]
"""A row of the clean shards: `CLEAN_COLUMNS`."""


@dataclass(frozen=True)
class Data:
    """Results of the stages before."""

    verdicts: list[VerdictRow]
    clean: pa.Table
    """`CLEAN_COLUMNS` of the clean shards."""
    split_of: dict[str, str]
    """Split by id."""
    leaks: list[LeakRow]
    why: dict[str, str]
    """Reason in reject.csv, by id."""


@dataclass(frozen=True)
class SizeRange:
    """Pixels of the stored images in one dimension."""

    dimension: str
    """width or height."""
    minimum: int
    median: int
    maximum: int


@dataclass(frozen=True)
class Bin:
    """A bin of a histogram."""

    range: str
    """Pixels: `40`, or `40 to 49`."""
    count: int
    """Images."""
    percent: float
    """Of the largest bin."""


def count_classes(data: Data) -> dict[str, Counter[str]]:
    """Number of images by class and by `COLUMNS`."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in sorted(data.verdicts, key=attrgetter("label")):
        column = data.split_of.get(row.id, LEFT_OUT) if row.is_kept else REJECTED
        counts[row.label] += Counter([column, TOTAL])
    return counts


def count_reasons(data: Data) -> dict[str, int]:
    """Number of rejected images by reason, in the order of the checks."""
    counts = Counter(row.reason for row in data.verdicts)
    return {reason.value: counts[reason] for reason in RejectReason if counts[reason]}


def count_warnings(data: Data) -> dict[str, int]:
    """Number of accepted images by warning."""
    warnings = (row.warnings.split() for row in data.verdicts if row.is_kept)
    return dict(Counter(sorted(warning for names in warnings for warning in names)))


def count_licences(rows: Sequence[CleanRow]) -> dict[str, int]:
    """Number of accepted images by licence, the most frequent first."""
    return dict(Counter(row["licence"] or "none stated" for row in rows).most_common())


def rejected_by_reason(data: Data) -> dict[str, list[VerdictRow]]:
    """Rejected images by reason, in the order of the checks."""
    by_reason: dict[str, list[VerdictRow]] = {reason.value: [] for reason in RejectReason}
    for row in data.verdicts:
        if row.reason:
            by_reason[row.reason].append(row)
    return {reason: rows for reason, rows in by_reason.items() if rows}


def near_groups(rows: Sequence[CleanRow]) -> list[list[CleanRow]]:
    """Groups of near-duplicates: first those with several labels, then by size."""
    by_group: dict[str, list[CleanRow]] = defaultdict(list)
    for row in rows:
        if row["near_group"]:
            by_group[row["near_group"]].append(row)
    groups = [group for group in by_group.values() if len(group) > 1]
    return sorted(
        groups, key=lambda group: (not has_two_labels(group), -len(group), group[0]["id"])
    )


def has_two_labels(rows: Sequence[CleanRow]) -> bool:
    """Whether labels differ."""
    return len({row["label"] for row in rows}) > 1


def samples(rows: Sequence[CleanRow], per_class: int, classes: int) -> dict[str, list[CleanRow]]:
    """A few images of each class, the first by id: ids are hashes, so the choice is random."""
    by_label: dict[str, list[CleanRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["label"], row["id"])):
        if len(by_label[row["label"]]) < per_class:
            by_label[row["label"]].append(row)
    return dict(list(by_label.items())[:classes])


def size_ranges(clean: pa.Table) -> list[SizeRange]:
    """Of width and height."""
    ranges = []
    for dimension in ("width", "height"):
        pixels = clean.column(dimension).to_numpy()
        low, high = int(pixels.min()), int(pixels.max())
        ranges.append(SizeRange(dimension, low, int(np.median(pixels)), high))
    return ranges


def shorter_side_histogram(clean: pa.Table) -> list[Bin]:
    """Images by their shorter side, in at most `MAX_BINS` bins of whole pixels."""
    shorter = np.minimum(clean.column("width").to_numpy(), clean.column("height").to_numpy())
    low, high = int(shorter.min()), int(shorter.max())
    step = -(-(high - low + 1) // MAX_BINS)
    edges = range(low, high + 1, step)
    counts = np.bincount((shorter - low) // step, minlength=len(edges))
    return [
        Bin(
            f"{edge} to {min(edge + step - 1, high)}" if step > 1 else str(edge),
            int(count),
            round(100 * count / counts.max(), 1),
        )
        for edge, count in zip(edges, counts, strict=True)
    ]
