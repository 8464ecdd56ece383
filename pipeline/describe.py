"""Stage describe: a page that shows what the data are, and the same in short as a table."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer

from pipeline import atomic, page, params, rejects, shards, stage, thumbnails
from pipeline.header import MEANING, Reason
from pipeline.page import Shown, data_uri
from pipeline.params import AS_DESCRIBED
from pipeline.printable import show
from pipeline.shards import SPLITS

LEFT_OUT, REJECTED, TOTAL = "left out", "rejected", "acquired"
COLUMNS = (*SPLITS, LEFT_OUT, REJECTED, TOTAL)
FACTS = ["id", "name", "label", "width", "height", "licence", "near_group"]
# What a page holds at most; the tables under data/ have all.
SAMPLES, CLASSES = 8, 100  # of each class, and classes that have them
REJECTED_SHOWN = 1000  # of each reason
GROUPS, OF_GROUP = 200, 12
LEAKS = 200
BINS = 12
BLIND = {Reason.EMPTY, Reason.NOT_AN_IMAGE, Reason.TOO_MANY_PIXELS, Reason.UNSUPPORTED,
         Reason.BREAKS_DECODER}  # fmt: skip


@dataclass(frozen=True)
class Data:
    """What the stages before left."""

    verdicts: list[dict[str, str]]
    clean: pa.Table
    """`FACTS` of the clean shards."""
    split_of: dict[str, str]
    leaks: list[dict[str, str]]
    why: dict[str, str]
    """Of what somebody rejected, by id."""


def count_classes(data: Data) -> dict[str, Counter[str]]:
    """For each class how many images are where, by `COLUMNS`."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in sorted(data.verdicts, key=lambda row: row["label"]):
        kept = row["verdict"] == "keep"
        where = data.split_of.get(row["id"], LEFT_OUT) if kept else REJECTED
        counts[row["label"]] += Counter([where, TOTAL])
    return counts


def rejected(data: Data) -> dict[str, list[dict[str, str]]]:
    """The verdicts to show, by reason, in the order in which reasons are looked for."""
    by_reason: dict[str, list[dict[str, str]]] = {reason.value: [] for reason in Reason}
    for row in data.verdicts:
        if row["reason"]:
            by_reason[row["reason"]].append(row)
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
        {"range": f"{edge} to {min(edge + step - 1, most)}" if step > 1 else str(edge),
         "count": int(count), "percent": round(100 * count / counts.max(), 1)}
        for edge, count in zip(edges, counts, strict=True)
    ]  # fmt: skip


def facts(data: Data, name: str, source: str, raw: Path, clean: Path) -> dict[str, object]:
    """Everything that the page says."""
    rows = data.clean.to_pylist()
    bad, groups, chosen = rejected(data), near_groups(rows), samples(rows)
    seen = [row["id"] for some in chosen.values() for row in some]
    seen += [row["id"] for some in groups[:GROUPS] for row in some[:OF_GROUP]]
    drawable = [row["id"] for reason, some in bad.items() if reason not in BLIND for row in some]
    pictures = thumbnails.of(clean, set(seen)) | thumbnails.of(raw, set(drawable))
    counts = count_classes(data)
    total = sum(counts.values(), Counter())
    show = _Show(pictures, data, _names(rows), _labels(data))
    return {
        "name": name, "source": source, "columns": COLUMNS,
        "total": total[TOTAL], "kept": len(rows),
        "splits": {split: total[split] for split in SPLITS},
        "classes": [{"label": label, "counts": count} for label, count in counts.items()],
        "samples": {label: show.kept(some) for label, some in chosen.items()},
        "reasons": _reasons(data),
        "warnings": _warnings(data), "meaning": MEANING,
        "rejected": {reason: show.rejected(some) for reason, some in bad.items()},
        "groups": [
            {"two_labels": _two_labels(some), "size": len(some),
             "shown": show.kept(some[:OF_GROUP])}
            for some in groups
        ],
        "reject_lines": rejects.lines(
            (row["id"], f"{row['label']} {row['name']}")
            for some in groups[:GROUPS] if _two_labels(some) for row in some
        ),
        "shown_groups": GROUPS, "leaks": data.leaks, "shown_leaks": LEAKS,
        "sizes": sizes(data.clean), "histogram": histogram(data.clean),
        "licences": _licences(rows),
    }  # fmt: skip


@dataclass(frozen=True)
class _Show:
    """Turns rows into what stands on the page."""

    pictures: Mapping[str, bytes]
    data: Data
    kept_names: Mapping[str, str]
    """By id, and by group of near-duplicates."""
    labels: Mapping[str, set[str]]
    """By id."""

    def kept(self, rows: Sequence[Mapping[str, Any]]) -> list[Shown]:
        return [self._one(row, self.data.split_of.get(row["id"], LEFT_OUT)) for row in rows]

    def rejected(self, rows: Sequence[Mapping[str, Any]]) -> list[Shown]:
        return [self._one(row, self._why(row)) for row in rows]

    def _why(self, row: Mapping[str, Any]) -> str:
        match row["reason"]:
            case Reason.BY_HAND:
                return self.data.why.get(row["id"], "")
            case Reason.CONFLICTING_LABELS:
                return "also " + ", ".join(sorted(self.labels[row["id"]] - {row["label"]}))
            case Reason.NEAR_DUPLICATE:
                return f"like {self.kept_names.get(row['near_group'], 'another')}"
            case Reason.DUPLICATE:
                return f"same as {self.kept_names.get(row['id'], 'another')}"
        return ""

    def _one(self, row: Mapping[str, Any], note: str) -> Shown:
        picture = data_uri(self.pictures.get(row["id"]))
        return Shown(row["id"], row["name"], row["label"], picture, note)


def _names(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    grouped = {row["near_group"]: row["name"] for row in rows if row["near_group"]}
    return grouped | {row["id"]: row["name"] for row in rows}


def _labels(data: Data) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for row in data.verdicts:
        found[row["id"]].add(row["label"])
    return found


def _reasons(data: Data) -> dict[str, int]:
    counts = Counter(row["reason"] for row in data.verdicts)
    return {reason.value: counts[reason] for reason in Reason if counts[reason]}


def _warnings(data: Data) -> dict[str, int]:
    kept = (row for row in data.verdicts if row["verdict"] == "keep")
    return dict(Counter(sorted(warning for row in kept for warning in row["warnings"].split())))


def _licences(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    found = Counter(row["licence"] or "none stated" for row in rows)
    return dict(found.most_common())


def print_summary(data: Data) -> None:
    """The page in short, on the terminal."""
    counts = count_classes(data)
    every = [*counts.items(), ("all", sum(counts.values(), Counter()))]
    rows = [[label, *(str(count[name]) for name in COLUMNS)] for label, count in every]
    show(["class", *COLUMNS], rows, numbers=True)
    if reasons := _reasons(data):
        rejected = [[reason, str(images)] for reason, images in reasons.items()]
        show(["rejected for", "images"], rejected, numbers=True)


def main(
    folder: Annotated[Path, typer.Argument(metavar="DATASET")],
    raw: Path,
    clean: Path,
    verdicts_csv: Annotated[Path, typer.Argument(metavar="VERDICTS")],
    split_csv: Annotated[Path, typer.Argument(metavar="SPLIT")],
    leaks_csv: Annotated[Path, typer.Argument(metavar="LEAKS")],
    data_html: Annotated[Path, typer.Argument(metavar="PAGE")],
) -> None:
    """Show what RAW became in CLEAN and in its splits, on PAGE; print the same in short."""
    data = Data(
        atomic.read_csv(verdicts_csv), shards.columns(clean, FACTS),
        {row["id"]: row["split"] for row in atomic.read_csv(split_csv)},
        atomic.read_csv(leaks_csv), rejects.read(folder),
    )  # fmt: skip
    source = params.load().dataset.source
    found = facts(data, folder.name, "" if source == AS_DESCRIBED else source, raw, clean)
    atomic.write_text(data_html, page.render("data.html", found))
    print_summary(data)
    print(f"describe: {data_html}")


if __name__ == "__main__":
    stage.run(main)
