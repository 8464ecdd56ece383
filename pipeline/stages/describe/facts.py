"""Stage describe: a page that shows what the data are, and the same in short as a table."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.core.leaks_csv import LeakRow
from pipeline.core.shards import SPLITS
from pipeline.core.verdicts_csv import VerdictRow
from pipeline.images import reject_list
from pipeline.images.gallery import GalleryImage, data_uri
from pipeline.images.header import MEANING, RejectReason
from pipeline.stages.describe import thumbnails

LEFT_OUT, REJECTED, TOTAL = "left out", "rejected", "acquired"
COLUMNS = (*SPLITS, LEFT_OUT, REJECTED, TOTAL)
FACTS = ["id", "name", "label", "width", "height", "licence", "near_group"]
# What a page holds at most; the tables under data/ have all.
SAMPLES, CLASSES = 8, 100  # of each class, and classes that have them
REJECTED_SHOWN = 1000  # of each reason
GROUPS, OF_GROUP = 200, 12
LEAKS = 200
BINS = 12
BLIND = {
    RejectReason.EMPTY,
    RejectReason.NOT_AN_IMAGE,
    RejectReason.TOO_MANY_PIXELS,
    RejectReason.UNSUPPORTED,
    RejectReason.BREAKS_DECODER,
}


@dataclass(frozen=True)
class Data:
    """What the stages before left."""

    verdicts: list[VerdictRow]
    clean: pa.Table
    """`FACTS` of the clean shards."""
    split_of: dict[str, str]
    leaks: list[LeakRow]
    why: dict[str, str]
    """Of what somebody rejected, by id."""


def count_classes(data: Data) -> dict[str, Counter[str]]:
    """For each class how many images are where, by `COLUMNS`."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in sorted(data.verdicts, key=attrgetter("label")):
        where = data.split_of.get(row.id, LEFT_OUT) if row.is_kept else REJECTED
        counts[row.label] += Counter([where, TOTAL])
    return counts


def rejected(data: Data) -> dict[str, list[VerdictRow]]:
    """The verdicts to show, by reason, in the order in which reasons are looked for."""
    by_reason: dict[str, list[VerdictRow]] = {reason.value: [] for reason in RejectReason}
    for row in data.verdicts:
        if row.reason:
            by_reason[row.reason].append(row)
    return {reason: rows[:REJECTED_SHOWN] for reason, rows in by_reason.items() if rows}


def near_groups(clean: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The groups of near-duplicates: those under two labels first, then the largest."""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in clean:
        if row["near_group"]:
            found[row["near_group"]].append(row)
    alike = [rows for rows in found.values() if len(rows) > 1]
    return sorted(alike, key=lambda rows: (not _two_labels(rows), -len(rows), rows[0]["id"]))


def _two_labels(rows: Sequence[Mapping[str, Any]]) -> bool:
    return len({row["label"] for row in rows}) > 1


def samples(clean: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The first of each class by id: ids are hashes, so this is a fair draw that stays."""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in sorted(clean, key=lambda row: (row["label"], row["id"])):
        if len(found[row["label"]]) < SAMPLES:
            found[row["label"]].append(row)
    return dict(list(found.items())[:CLASSES])


def sizes(clean: pa.Table) -> list[dict[str, object]]:
    """Least, median and most of width and height, in pixels."""
    found = []
    for what in ("width", "height"):
        values = clean.column(what).to_numpy()
        middle = int(np.median(values))
        found.append({"what": what, "least": values.min(), "median": middle, "most": values.max()})
    return found


def histogram(clean: pa.Table) -> list[dict[str, object]]:
    """Images by their shorter side, in at most `BINS` bins of whole pixels."""
    shorter = np.minimum(clean.column("width").to_numpy(), clean.column("height").to_numpy())
    least, most = int(shorter.min()), int(shorter.max())
    step = -(-(most - least + 1) // BINS)
    edges = range(least, most + 1, step)
    counts = np.bincount((shorter - least) // step, minlength=len(edges))
    return [
        {
            "range": f"{edge} to {min(edge + step - 1, most)}" if step > 1 else str(edge),
            "count": int(count),
            "percent": round(100 * count / counts.max(), 1),
        }
        for edge, count in zip(edges, counts, strict=True)
    ]


def facts(data: Data, name: str, source: str, raw: Path, clean: Path) -> dict[str, object]:
    """Everything that the page says."""
    rows = data.clean.to_pylist()
    bad, groups, chosen = rejected(data), near_groups(rows), samples(rows)
    seen = [row["id"] for some in chosen.values() for row in some]
    seen += [row["id"] for some in groups[:GROUPS] for row in some[:OF_GROUP]]
    drawable = [row.id for reason, some in bad.items() if reason not in BLIND for row in some]
    pictures = thumbnails.of(clean, set(seen)) | thumbnails.of(raw, set(drawable))
    counts = count_classes(data)
    total = sum(counts.values(), Counter())
    show = _Show(pictures, data, _names(rows), _labels(data))
    return {
        "name": name,
        "source": source,
        "columns": COLUMNS,
        "total": total[TOTAL],
        "kept": len(rows),
        "splits": {split: total[split] for split in SPLITS},
        "classes": [{"label": label, "counts": count} for label, count in counts.items()],
        "samples": {label: show.kept(some) for label, some in chosen.items()},
        "reasons": _reasons(data),
        "warnings": _warnings(data),
        "meaning": MEANING,
        "rejected": {reason: show.rejected(some) for reason, some in bad.items()},
        "groups": [
            {
                "two_labels": _two_labels(some),
                "size": len(some),
                "shown": show.kept(some[:OF_GROUP]),
            }
            for some in groups
        ],
        "reject_lines": reject_list.lines(
            (row["id"], f"{row['label']} {row['name']}")
            for some in groups[:GROUPS]
            if _two_labels(some)
            for row in some
        ),
        "shown_groups": GROUPS,
        "leaks": data.leaks,
        "shown_leaks": LEAKS,
        "sizes": sizes(data.clean),
        "histogram": histogram(data.clean),
        "licences": _licences(rows),
    }


@dataclass(frozen=True)
class _Show:
    """Turns rows into what stands on the page."""

    pictures: Mapping[str, bytes]
    data: Data
    kept_names: Mapping[str, str]
    """By id, and by group of near-duplicates."""
    labels: Mapping[str, set[str]]
    """By id."""

    def kept(self, rows: Sequence[Mapping[str, Any]]) -> list[GalleryImage]:
        split_of = self.data.split_of
        return [
            self._image(row["id"], row["name"], row["label"], split_of.get(row["id"], LEFT_OUT))
            for row in rows
        ]

    def rejected(self, rows: Sequence[VerdictRow]) -> list[GalleryImage]:
        return [self._image(row.id, row.name, row.label, self._why(row)) for row in rows]

    def _why(self, row: VerdictRow) -> str:
        match row.reason:
            case RejectReason.BY_HAND:
                return self.data.why.get(row.id, "")
            case RejectReason.CONFLICTING_LABELS:
                return "also " + ", ".join(sorted(self.labels[row.id] - {row.label}))
            case RejectReason.NEAR_DUPLICATE:
                return f"like {self.kept_names.get(row.near_group, 'another')}"
            case RejectReason.DUPLICATE:
                return f"same as {self.kept_names.get(row.id, 'another')}"
        return ""

    def _image(self, key: str, name: str, label: str, note: str) -> GalleryImage:
        return GalleryImage(key, name, label, data_uri(self.pictures.get(key)), note)


def _names(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    grouped = {row["near_group"]: row["name"] for row in rows if row["near_group"]}
    return grouped | {row["id"]: row["name"] for row in rows}


def _labels(data: Data) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for row in data.verdicts:
        found[row.id].add(row.label)
    return found


def _reasons(data: Data) -> dict[str, int]:
    counts = Counter(row.reason for row in data.verdicts)
    return {reason.value: counts[reason] for reason in RejectReason if counts[reason]}


def _warnings(data: Data) -> dict[str, int]:
    kept = (row for row in data.verdicts if row.is_kept)
    return dict(Counter(sorted(warning for row in kept for warning in row.warnings.split())))


def _licences(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    found = Counter(row["licence"] or "none stated" for row in rows)
    return dict(found.most_common())
