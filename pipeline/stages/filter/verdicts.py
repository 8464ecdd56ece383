"""Stage filter: every image is decoded once, judged, and stored upright and uniform."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import shards
from pipeline.core.errors import PipelineError, format_counts
from pipeline.core.shards import lateness
from pipeline.core.verdicts_csv import KEEP, REJECT, VerdictRow
from pipeline.images.header import RejectReason, Warn, has_wrong_extension
from pipeline.params import FilterParams
from pipeline.stages.filter import near_duplicates
from pipeline.stages.filter.judge_all import judge_all

VERDICT = pa.schema([*shards.CLEAN, ("reason", pa.string()), ("warnings", pa.list_(pa.string()))])


def compare(
    facts: pa.Table, by_hand: Mapping[str, str], params: FilterParams
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
        reasons[row] = reasons[row] or (
            RejectReason.BY_HAND if key in by_hand else repeats.get(row)
        )
    kept = [row for row, reason in enumerate(reasons) if reason is None]
    near_group: list[str | None] = [None] * len(ids)
    seen: set[tuple[str, str]] = set()
    for rows in _near(facts.column("phash").to_numpy(), kept, params.near_duplicate_bits):
        name = min(ids[row] for row in rows)
        for row in sorted(rows, key=lambda row: (-lateness(splits[row]), ids[row])):
            near_group[row] = name
            if params.near_duplicates == "keep_one" and (name, labels[row]) in seen:
                reasons[row] = RejectReason.NEAR_DUPLICATE
            seen.add((name, labels[row]))
    return reasons, near_group


def _near(hashes: near_duplicates.Hashes, kept: list[int], bits: int | None) -> Iterator[list[int]]:
    """The groups of two and more among the rows `kept`."""
    if bits is None:
        return
    rows_of: dict[int, list[int]] = {}
    for row, group in zip(kept, near_duplicates.groups(hashes[kept], bits).tolist(), strict=True):
        rows_of.setdefault(group, []).append(row)
    yield from (rows for rows in rows_of.values() if len(rows) > 1)


def repeated(raw: pa.Table) -> dict[int, RejectReason]:
    """The rows to reject because the same bytes stand elsewhere, and why.

    Of equal images under one label one stays: the one that the source puts in test, else in val,
    else the first. Under two labels none stays: nobody knows which is right.
    """
    ids, labels, splits = (raw.column(name).to_pylist() for name in ("id", "label", "split"))
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(ids):
        rows_of.setdefault(key, []).append(row)
    rejected: dict[int, RejectReason] = {}
    for rows in rows_of.values():
        if len({labels[row] for row in rows}) > 1:
            rejected |= dict.fromkeys(rows, RejectReason.CONFLICTING_LABELS)
        else:
            rows.sort(key=lambda row: -lateness(splits[row]))
            rejected |= dict.fromkeys(rows[1:], RejectReason.DUPLICATE)
    return rejected


def verdicts(
    raw: Path, by_hand: Mapping[str, str], params: FilterParams
) -> Iterator[pa.RecordBatch]:
    """Judge every raw image; yield batches of `VERDICT`, in order.

    Their rows hold what a clean shard does, `reason` (null when kept) and `warnings`.
    """
    facts = [
        pa.Table.from_batches([batch.select(["id", "label", "split"])])
        .append_column("reason", results.column("reason"))
        .append_column("phash", results.column("phash"))
        for batch, results in judge_all(raw, params)
    ]
    reasons, near_group = compare(pa.concat_tables(facts), by_hand, params)
    done = 0
    for batch, results in judge_all(raw, params):
        now = slice(done, done + len(batch))
        done += len(batch)
        columns = {name: batch.column(name) for name in shards.FACTS} | {
            "width": results.column("width"),
            "height": results.column("height"),
            "phash": results.column("phash"),
            "near_group": pa.array(near_group[now], pa.string()),
            "bytes": _stored(batch, results),
            "reason": pa.array(reasons[now], pa.string()),
            "warnings": _warnings(batch, results),
        }
        yield pa.RecordBatch.from_pydict(columns, schema=VERDICT)


def _stored(batch: pa.RecordBatch, results: pa.RecordBatch) -> pa.Array:
    stored, original = results.column("stored"), batch.column("bytes")
    return original if stored.null_count == len(stored) else pc.coalesce(stored, original)


def _warnings(batch: pa.RecordBatch, results: pa.RecordBatch) -> pa.Array:
    noticed = [
        [*([Warn.WRONG_EXTENSION.value] if form and has_wrong_extension(name, form) else ()), *own]
        for name, form, own in zip(
            batch.column("name").to_pylist(),
            results.column("format").to_pylist(),
            results.column("warnings").to_pylist(),
            strict=True,
        )
    ]
    return pa.array(noticed, pa.list_(pa.string()))


def check(table: Sequence[VerdictRow], params: FilterParams, verdicts_csv: Path) -> None:
    """Refuse a data set of which too much is bad.

    Args:
        table: The rows of verdicts.csv.

    Raises:
        PipelineError: nothing of a class is left, or too little of all, with the reasons.
    """
    reasons = reasons_of(table)
    said = f"{reasons.total()} of {len(table)} images are rejected ({format_counts(reasons)})"
    if reasons.total() > params.max_reject_fraction * len(table):
        raise PipelineError(
            f"{said}, past filter.max_reject_fraction={params.max_reject_fraction}: see "
            f"{verdicts_csv}, and mend the source, or raise it"
        )
    kept = {row.label for row in table if row.is_kept}
    for lost in sorted({row.label for row in table} - kept):
        rows = [row for row in table if row.label == lost]
        raise PipelineError(
            f"all {len(rows)} images of class {lost!r} are rejected "
            f"({format_counts(reasons_of(rows))}): see {verdicts_csv}, and mend or "
            "leave out the class"
        )


def reasons_of(table: Iterable[VerdictRow]) -> Counter[str]:
    """How many rows of verdicts.csv have each reason."""
    return Counter(row.reason for row in table if row.reason)


def verdict_rows(batch: pa.RecordBatch) -> Iterator[VerdictRow]:
    """The rows of verdicts.csv for a batch of `VERDICT`."""
    for row in batch.drop_columns(["bytes"]).to_pylist():
        reason = row["reason"] or ""
        yield VerdictRow(
            row["id"],
            row["name"],
            row["label"],
            row["split"] or "",
            REJECT if reason else KEEP,
            reason,
            " ".join(row["warnings"]),
            row["near_group"] or "",
        )
