"""Stage filter: every image is decoded once, judged, and stored upright and uniform."""

import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import atomic, images, memo, params, shards, stage
from pipeline.errors import PipelineError, counted
from pipeline.images import Reason, Warn
from pipeline.mapping import map_images

VERDICTS = ("id", "name", "label", "verdict", "reason", "warnings")
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
SPLIT_ORDER = {"test": 0, "val": 1, "train": 2, None: 3}  # which copy of a duplicate stays


def judge_batch(batch: pa.RecordBatch, limits: params.Filter) -> pa.RecordBatch:
    """Judgements on a batch of raw rows, by their bytes alone."""
    rows = []
    for key, data in zip(batch.column("id"), batch.column("bytes"), strict=True):
        judged = images.judge(data.as_py(), limits)
        rows.append({"id": key.as_py()} | vars(judged))
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


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


def verdicts(raw: Path, limits: params.Filter) -> Iterator[dict[str, Any]]:
    """Judge every raw image; yield its facts with `reason` (None when kept) and `warnings`.

    The rows of kept images hold every column of a clean shard.
    """
    rejected = repeated(shards.columns(raw, ["id", "label", "split"]))
    values = limits.model_dump(exclude={"max_reject_fraction"})
    key = memo.fingerprint(values, [images, sys.modules[judge_batch.__module__]], LIBRARIES)
    judged = map_images(
        partial(judge_batch, limits=limits),
        raw, schema=SCHEMA, memo=memo.Memo("filter", key), title="filter",
    )  # fmt: skip
    number = 0
    for batch, results in judged:
        for row, result in zip(batch.to_pylist(), results.to_pylist(), strict=True):
            reason = result["reason"] or rejected.get(number)
            noticed = result["warnings"] or []
            if result["format"] and images.has_wrong_extension(row["name"], result["format"]):
                noticed = [Warn.WRONG_EXTENSION.value, *noticed]
            stored = result["stored"] if result["stored"] is not None else row["bytes"]
            number += 1
            yield row | result | {"reason": reason, "warnings": noticed, "bytes": stored}


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


def main(raw: Path, clean: Path, verdicts_csv: Path) -> None:
    """Judge the images of RAW; write the good ones to CLEAN and every verdict to VERDICTS_CSV."""
    limits = params.load().filter
    table: list[tuple[str, ...]] = []
    reasons: Counter[str] = Counter()

    def kept() -> Iterator[dict[str, Any]]:
        for row in verdicts(raw, limits):
            reason = row["reason"] or ""
            verdict = "reject" if reason else "keep"
            warnings = " ".join(row["warnings"])
            table.append((row["id"], row["name"], row["label"], verdict, reason, warnings))
            if reason:
                reasons[reason] += 1
            else:
                yield row
        # First, so that it shows what to mend where the check fails.
        atomic.write_csv(verdicts_csv, VERDICTS, table)
        check(reasons, len(table), limits)

    count = shards.write(clean, shards.CLEAN, kept())
    print(f"filter: kept {count} of {len(table)} images; rejected: {counted(reasons)}")


if __name__ == "__main__":
    stage.run(main)
