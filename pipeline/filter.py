"""Stage filter: every image is decoded once, judged, and stored upright and uniform."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

from pipeline import (
    atomic,
    header,
    images,
    isolation,
    memo,
    near,
    params,
    phash,
    rejects,
    shards,
    stage,
)
from pipeline.errors import PipelineError, counted
from pipeline.header import Reason, Warn
from pipeline.images import Judgement
from pipeline.isolation import Isolation
from pipeline.mapping import map_images

VERDICTS = ("id", "name", "label", "split", "verdict", "reason", "warnings", "near_group")
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "reason": pa.string(),
        "format": pa.string(),
        "warnings": pa.list_(pa.string()),
        "width": pa.int32(),
        "height": pa.int32(),
        "phash": pa.uint64(),
        "stored": pa.binary(),
    }
)
LIBRARIES = ["opencv-python-headless", "pillow", "simplejpeg", "numpy"]
SPLIT_ORDER = {"test": 0, "val": 1, "train": 2, None: 3}  # which of several copies stays
SECONDS = 20  # that one image may take
MEGABYTES = 500  # that a worker may take beside what the largest allowed image needs
BYTES_PER_PIXEL = 24  # of such an image, with transparency: in several copies


def judge_batch(batch: pa.RecordBatch, limits: params.Filter) -> pa.RecordBatch:
    """Judgements on a batch of raw rows, by their bytes alone."""
    rows = []
    for key, data in zip(batch.column("id"), batch.column("bytes"), strict=True):
        with isolation.deadline(SECONDS):
            judged = images.judge(data.as_py(), limits)
        rows.append({"id": key.as_py()} | vars(judged))
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def _killed_its_worker(key: str) -> dict[str, Any]:
    return {"id": key} | vars(Judgement(Reason.BREAKS_DECODER))


Judged = Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]


def judge_all(raw: Path, limits: params.Filter) -> Judged:
    """Each raw shard with what is said of its images; remembered, so asking twice costs little."""
    values = limits.model_dump(include={"min_side", "max_megapixels", "store_side"})
    modules = [images, header, phash, sys.modules[judge_batch.__module__]]
    memory = int(MEGABYTES * 1e6 + limits.max_megapixels * 1e6 * BYTES_PER_PIXEL)
    return map_images(
        partial(judge_batch, limits=limits), raw,
        schema=SCHEMA, memo=memo.Memo("filter", memo.fingerprint(values, modules, LIBRARIES)),
        title="filter", isolation=Isolation(_killed_its_worker, memory),
    )  # fmt: skip


def compare(
    facts: pa.Table, by_hand: Mapping[str, str], limits: params.Filter
) -> tuple[list[str | None], list[str | None]]:
    """The reason to reject each image, once all of them are known, and its near-duplicates.

    Args:
        facts: id, label, split, reason (by its bytes alone) and phash of every raw image.
        by_hand: The ids that somebody does not want.

    Returns:
        For each image the reason or None, and the smallest id of its group of near-duplicates,
        None where it is alone.
    """
    ids, labels, splits, reasons = (
        facts.column(name).to_pylist() for name in ("id", "label", "split", "reason")
    )
    repeats = repeated(facts)
    for row, key in enumerate(ids):
        reasons[row] = reasons[row] or (Reason.BY_HAND if key in by_hand else repeats.get(row))
    kept = [row for row, reason in enumerate(reasons) if reason is None]
    near_group: list[str | None] = [None] * len(ids)
    seen: set[tuple[str, str]] = set()
    for rows in _near(facts.column("phash").to_numpy(), kept, limits.near_duplicate_bits):
        name = min(ids[row] for row in rows)
        for row in sorted(rows, key=lambda row: SPLIT_ORDER[splits[row]]):
            near_group[row] = name
            if limits.near_duplicates == "keep_one" and (name, labels[row]) in seen:
                reasons[row] = Reason.NEAR_DUPLICATE
            seen.add((name, labels[row]))
    return reasons, near_group


def _near(hashes: near.Hashes, kept: list[int], bits: int | None) -> Iterator[list[int]]:
    """The groups of two and more among the rows `kept`."""
    if bits is None:
        return
    rows_of: dict[int, list[int]] = {}
    for row, group in zip(kept, near.groups(hashes[kept], bits).tolist(), strict=True):
        rows_of.setdefault(group, []).append(row)
    yield from (rows for rows in rows_of.values() if len(rows) > 1)


def repeated(raw: pa.Table) -> dict[int, Reason]:
    """The rows to reject because the same bytes stand elsewhere, and why.

    Of equal images under one label one stays: the one that the source puts in test, else in val,
    else the first. Under two labels none stays: nobody knows which is right.
    """
    ids, labels, splits = (raw.column(name).to_pylist() for name in ("id", "label", "split"))
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(ids):
        rows_of.setdefault(key, []).append(row)
    rejected: dict[int, Reason] = {}
    for rows in rows_of.values():
        if len({labels[row] for row in rows}) > 1:
            rejected |= dict.fromkeys(rows, Reason.CONFLICTING_LABELS)
        else:
            rows.sort(key=lambda row: SPLIT_ORDER[splits[row]])
            rejected |= dict.fromkeys(rows[1:], Reason.DUPLICATE)
    return rejected


def verdicts(
    raw: Path, by_hand: Mapping[str, str], limits: params.Filter
) -> Iterator[dict[str, Any]]:
    """Judge every raw image; yield its facts with `reason` (None when kept) and `warnings`.

    The rows of kept images hold every column of a clean shard.
    """
    parts = [
        pa.Table.from_batches([batch.select(["id", "label", "split"])])
        .append_column("reason", results.column("reason"))
        .append_column("phash", results.column("phash"))
        for batch, results in judge_all(raw, limits)
    ]
    reasons, near_group = compare(pa.concat_tables(parts), by_hand, limits)
    number = 0
    for batch, results in judge_all(raw, limits):
        for row, result in zip(batch.to_pylist(), results.to_pylist(), strict=True):
            noticed = result["warnings"] or []
            if result["format"] and header.has_wrong_extension(row["name"], result["format"]):
                noticed = [Warn.WRONG_EXTENSION.value, *noticed]
            stored = result["stored"] if result["stored"] is not None else row["bytes"]
            yield row | result | {
                "reason": reasons[number], "near_group": near_group[number],
                "warnings": noticed, "bytes": stored,
            }  # fmt: skip
            number += 1


def check(reasons: Counter[str], total: int, limits: params.Filter) -> None:
    """Refuse a data set of which too much is bad.

    Raises:
        PipelineError: nothing is left, or past `filter.max_reject_fraction`; with the reasons.
    """
    rejected = reasons.total()
    said = f"{rejected} of {total} images are rejected ({counted(reasons)})"
    if rejected > limits.max_reject_fraction * total:
        raise PipelineError(
            f"{said}, past filter.max_reject_fraction={limits.max_reject_fraction}: mend the "
            "source, or raise it"
        )
    if rejected == total:
        raise PipelineError(f"{said}: nothing is left to train on")


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Of verdicts.csv."""
    reason = row["reason"] or ""
    return (
        row["id"], row["name"], row["label"], row["split"] or "",
        "reject" if reason else "keep", reason, " ".join(row["warnings"]), row["near_group"] or "",
    )  # fmt: skip


def main(
    folder: Annotated[Path, typer.Argument(metavar="DATASET")],
    raw: Annotated[Path, typer.Argument()],
    clean: Annotated[Path, typer.Argument()],
    verdicts_csv: Annotated[Path, typer.Argument(metavar="VERDICTS")],
) -> None:
    """Judge the images of RAW; write the good ones to CLEAN and every verdict to VERDICTS.

    What DATASET/reject.csv names is rejected too.
    """
    limits = params.load().filter
    by_hand = rejects.read(folder)
    table: list[tuple[str, ...]] = []
    reasons: Counter[str] = Counter()

    def kept() -> Iterator[dict[str, Any]]:
        for row in verdicts(raw, by_hand, limits):
            table.append(_line(row))
            if row["reason"]:
                reasons[row["reason"]] += 1
            else:
                yield row
        # First, so that it shows what to mend where the check fails.
        atomic.write_csv(verdicts_csv, VERDICTS, table)
        check(reasons, len(table), limits)

    count = shards.write(clean, shards.CLEAN, kept())
    print(f"filter: kept {count} of {len(table)} images; rejected: {counted(reasons)}")


if __name__ == "__main__":
    stage.run(main)
