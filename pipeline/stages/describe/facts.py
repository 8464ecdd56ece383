"""Counts and selections for the page of the data and its summary."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import columns
from pipeline.core.shards import SPLITS, array
from pipeline.core.split_csv import LeakRow, SplitRow
from pipeline.core.verdicts_csv import VerdictRow
from pipeline.images.header import RejectReason

LEFT_OUT, REJECTED, TOTAL = "left out", "rejected", "acquired"
COLUMNS = (*SPLITS, LEFT_OUT, REJECTED, TOTAL)
CLEAN_COLUMNS = ["id", "name", "label", "width", "height", "licence", "near_group"]
MAX_BINS = 12

CleanRow = Mapping[str, Any]
"""A row of the clean shards: `CLEAN_COLUMNS`."""

Rows = npt.NDArray[np.int64]
"""Numbers of rows of the clean shards."""

CountsByClass = dict[str, Counter[str]]
"""Number of images by class and by `COLUMNS`."""


@dataclass(frozen=True)
class Data:
    """Results of the stages before. Tables are read row by row, once per call."""

    verdicts: Callable[[], Iterable[VerdictRow]]
    clean: pa.Table
    """`CLEAN_COLUMNS` of the clean shards."""
    splits: Callable[[], Iterable[SplitRow]]
    leaks: Sequence[LeakRow]
    """The first rows of leaks.csv."""
    leak_count: int
    why: dict[str, str]
    """Reason in reject.csv, by id."""

    def clean_rows(self, rows: Rows) -> list[CleanRow]:
        """Some images as objects."""
        table: list[CleanRow] = self.clean.take(array(rows)).to_pylist()
        return table


@dataclass(frozen=True)
class ImageCounts:
    """Numbers of images."""

    classes: CountsByClass
    """In the order of their names."""
    reasons: dict[str, int]
    """Of rejection, in the order of the checks."""
    warnings: dict[str, int]
    """About accepted images, by name."""
    relabelled: dict[tuple[str, str], int]
    """By the source's label and that of relabel.csv, the most frequent first."""

    @property
    def total(self) -> Counter[str]:
        """By `COLUMNS`."""
        return sum(self.classes.values(), Counter())


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


def count_images(data: Data) -> ImageCounts:
    """Count the images by class and split, and by what the filter says of them."""
    by_class: CountsByClass = defaultdict(Counter)
    reasons: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    relabelled: Counter[tuple[str, str]] = Counter()
    for row in data.verdicts():
        by_class[row.label].update([LEFT_OUT if row.is_kept else REJECTED, TOTAL])
        if row.is_kept:
            warnings.update(row.warnings.split())
        reasons[row.reason] += 1
        if row.source_label:
            relabelled[row.source_label, row.label] += 1
    for image in data.splits():
        by_class[image.label][image.split] += 1
        by_class[image.label][LEFT_OUT] -= 1
    return ImageCounts(
        {label: +by_class[label] for label in sorted(by_class)},
        {reason.value: reasons[reason] for reason in RejectReason if reasons[reason]},
        dict(sorted(warnings.items())),
        dict(relabelled.most_common()),
    )


def select_classes(counts: CountsByClass, most: int) -> list[str]:
    """At most so many classes: the largest and the smallest, in the order of their names."""
    if len(counts) <= most:
        return list(counts)
    by_size = sorted(counts, key=lambda label: (-counts[label][TOTAL], label))
    return sorted([*by_size[: -(-most // 2)], *by_size[len(by_size) - most // 2 :]])


def count_licences(clean: pa.Table, most: int) -> tuple[dict[str, int], int]:
    """Number of accepted images by licence, the most frequent first; and how many more there are.

    Args:
        most: Licences to name.
    """
    codes, names = columns.encode(clean.column("licence"))
    numbers = np.bincount(codes + 1, minlength=len(names) + 1).tolist()
    first_rows = np.full(len(names) + 1, len(codes))
    np.minimum.at(first_rows, codes + 1, np.arange(len(codes)))
    counts: Counter[str] = Counter()
    for code in np.argsort(first_rows, kind="stable").tolist():
        if numbers[code]:
            counts[(names[code - 1].as_py() if code else "") or "none stated"] += numbers[code]
    return dict(counts.most_common(most)), max(0, len(counts) - most)


def rejected_by_reason(verdicts: Iterable[VerdictRow], most: int) -> dict[str, list[VerdictRow]]:
    """The first rejected images of each reason, in the order of the checks."""
    by_reason: dict[str, list[VerdictRow]] = {reason.value: [] for reason in RejectReason}
    for row in verdicts:
        if row.reason and len(by_reason[row.reason]) < most:
            by_reason[row.reason].append(row)
    return {reason: rows for reason, rows in by_reason.items() if rows}


class NearGroups:
    """Groups of near-duplicates: first those with several labels, then by size."""

    def __init__(self, clean: pa.Table) -> None:
        self.names: pa.Array
        self.of_row, self.names = columns.encode(clean.column("near_group"))
        labels, _ = columns.encode(clean.column("label"))
        rows = np.flatnonzero(self.of_row >= 0)
        self._rows = rows[np.argsort(self.of_row[rows], kind="stable")]
        sizes = np.bincount(self.of_row[rows], minlength=len(self.names))
        self._ends = sizes.cumsum()
        self._starts = self._ends - sizes
        has_two_labels = np.zeros(len(sizes), bool)
        if len(sizes):
            by_group = labels[self._rows]
            has_two_labels = np.minimum.reduceat(by_group, self._starts) != np.maximum.reduceat(
                by_group, self._starts
            )
        candidates = np.flatnonzero(sizes > 1)
        first_ids = clean.column("id").take(array(self._rows[self._starts[candidates]]))
        order = np.lexsort(
            (columns.ranks(first_ids), -sizes[candidates], ~has_two_labels[candidates])
        )
        self._order = candidates[order]
        self.two_label_count = int(has_two_labels[candidates].sum())

    def __len__(self) -> int:
        return len(self._order)

    def rows(self, group: int) -> Rows:
        """The images of a group, by its place in the order."""
        number = self._order[group]
        return self._rows[self._starts[number] : self._ends[number]]


def has_two_labels(rows: Sequence[CleanRow]) -> bool:
    """Whether labels differ."""
    return len({row["label"] for row in rows}) > 1


def samples(clean: pa.Table, per_class: int, classes: Sequence[str]) -> dict[str, Rows]:
    """A few images of some classes, the first by id: ids are hashes, so the choice is random."""
    codes, names = columns.encode_sorted(clean.column("label"))
    number = {name: code for code, name in enumerate(names)}
    order: Rows = np.from_dlpack(pc.sort_indices(clean.column("id"))).astype(np.int64)
    by_class = order[np.argsort(codes[order], kind="stable")]
    starts = np.searchsorted(codes[by_class], np.arange(len(names) + 1))
    return {
        label: by_class[starts[number[label]] : starts[number[label] + 1]][:per_class]
        for label in classes
        if label in number
    }


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
