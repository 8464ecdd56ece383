"""Verdicts on all images: those on their bytes alone, then duplicates and near-duplicates."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import shards
from pipeline.core.errors import PipelineError, format_counts
from pipeline.core.shards import split_rank
from pipeline.core.verdicts_csv import KEEP, REJECT, VerdictRow
from pipeline.images.format_detection import has_wrong_extension
from pipeline.images.header import RejectReason, Warn
from pipeline.params import FilterParams
from pipeline.stages.filter.judge_all import judge_all, open_memo
from pipeline.stages.filter.near_duplicates import Hashes, group_hashes

VERDICT = pa.schema([*shards.CLEAN, ("reason", pa.string()), ("warnings", pa.list_(pa.string()))])


def judge_images(
    raw: Path, by_hand: Mapping[str, str], params: FilterParams
) -> Iterator[pa.RecordBatch]:
    """Judge every raw image; yield batches of `VERDICT`, in the order of the raw images.

    A row is that of a clean shard, with `reason` (null where the image is kept) and `warnings`.
    There are two passes, because duplicates need the hashes of all images; the second one reads
    the judgements from the memo, also those that the next run computes again.

    Args:
        by_hand: Ids to reject, with why.
    """
    memo = open_memo(params)
    facts = [
        pa.Table.from_batches([batch.select(["id", "label", "split"])])
        .append_column("reason", judgements.column("reason"))
        .append_column("phash", judgements.column("phash"))
        for batch, judgements in judge_all(raw, params, memo)
    ]
    reasons, near_groups = compare_images(pa.concat_tables(facts), by_hand, params)
    start = 0
    for batch, judgements in judge_all(raw, params, memo):
        rows = slice(start, start + len(batch))
        start += len(batch)
        columns = {name: batch.column(name) for name in shards.FACTS} | {
            "width": judgements.column("width"),
            "height": judgements.column("height"),
            "phash": judgements.column("phash"),
            shards.STORED: _stored_digests(batch, judgements),
            "near_group": pa.array(near_groups[rows], pa.string()),
            "bytes": _stored_bytes(batch, judgements),
            "reason": pa.array(reasons[rows], pa.string()),
            "warnings": _warnings(batch, judgements),
        }
        yield pa.RecordBatch.from_pydict(columns, schema=VERDICT)


def compare_images(
    facts: pa.Table, by_hand: Mapping[str, str], params: FilterParams
) -> tuple[list[str | None], list[str | None]]:
    """Compare all images with each other.

    Args:
        facts: id, label, split, reason (by its bytes alone) and phash of every raw image.
        by_hand: Ids to reject.

    Returns:
        For each image the reason to reject it or None, and the smallest id of its group of
        near-duplicates or None.
    """
    ids, labels, splits, reasons = (
        facts.column(name).to_pylist() for name in ("id", "label", "split", "reason")
    )
    duplicates = _find_duplicates(ids, labels, splits)
    for row, key in enumerate(ids):
        reasons[row] = reasons[row] or (
            RejectReason.BY_HAND if key in by_hand else duplicates.get(row)
        )
    rows = [row for row, reason in enumerate(reasons) if reason is None]
    hashes = facts.column("phash").to_numpy()
    near_groups: list[str | None] = [None] * len(ids)
    represented: set[tuple[str, str]] = set()  # groups and labels
    for group in _near_duplicates(hashes, rows, params.near_duplicate_bits):
        name = min(ids[row] for row in group)
        for row in sorted(group, key=lambda row: (-split_rank(splits[row]), ids[row])):
            near_groups[row] = name
            if params.near_duplicates == "keep_one" and (name, labels[row]) in represented:
                reasons[row] = RejectReason.NEAR_DUPLICATE
            represented.add((name, labels[row]))
    return reasons, near_groups


def _near_duplicates(hashes: Hashes, rows: list[int], bits: int | None) -> Iterator[list[int]]:
    """The groups of two and more near-duplicates among `rows`."""
    if bits is None:
        return
    rows_of: dict[int, list[int]] = {}
    for row, group in zip(rows, group_hashes(hashes[rows], bits).tolist(), strict=True):
        rows_of.setdefault(group, []).append(row)
    yield from (group for group in rows_of.values() if len(group) > 1)


def _find_duplicates(
    ids: Sequence[str], labels: Sequence[str], splits: Sequence[str | None]
) -> dict[int, RejectReason]:
    """The rows to reject because of other rows with the same bytes, and why.

    Of equal images under one label one stays: the one in the latest prescribed split, or the first.
    Under two labels none stays, since either may be wrong.
    """
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(ids):
        rows_of.setdefault(key, []).append(row)
    rejected: dict[int, RejectReason] = {}
    for rows in rows_of.values():
        if len({labels[row] for row in rows}) > 1:
            rejected |= dict.fromkeys(rows, RejectReason.CONFLICTING_LABELS)
        else:
            rows.sort(key=lambda row: -split_rank(splits[row]))
            rejected |= dict.fromkeys(rows[1:], RejectReason.DUPLICATE)
    return rejected


def _stored_bytes(batch: pa.RecordBatch, judgements: pa.RecordBatch) -> pa.Array:
    stored, original = judgements.column("stored"), batch.column("bytes")
    return original if stored.null_count == len(stored) else pc.coalesce(stored, original)


def _stored_digests(batch: pa.RecordBatch, judgements: pa.RecordBatch) -> pa.Array:
    """`STORED` of each image; where the original bytes are stored, it is the id."""
    digests = []
    ids, images = batch.column("id").to_pylist(), batch.column("bytes")
    for key, image, stored in zip(ids, images, judgements.column("stored"), strict=True):
        if stored.is_valid:
            digests.append(shards.digest(stored.as_py()))
        else:  # the judgement may be remembered, and of sound bytes
            shards.check_bytes([key], [image.as_py()])
            digests.append(key)
    return pa.array(digests, pa.string())


def _warnings(batch: pa.RecordBatch, judgements: pa.RecordBatch) -> pa.Array:
    warnings = [
        [*([Warn.WRONG_EXTENSION.value] if form and has_wrong_extension(name, form) else ()), *own]
        for name, form, own in zip(
            batch.column("name").to_pylist(),
            judgements.column("format").to_pylist(),
            judgements.column("warnings").to_pylist(),
            strict=True,
        )
    ]
    return pa.array(warnings, pa.list_(pa.string()))


def verdict_rows(batch: pa.RecordBatch) -> Iterator[VerdictRow]:
    """Yield the rows of verdicts.csv for a batch of `VERDICT`."""
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


def check_rejects(table: Sequence[VerdictRow], params: FilterParams, verdicts_csv: Path) -> None:
    """Refuse a data set with too many rejected images.

    Raises:
        PipelineError: nothing of a class is left, or too little of all, with the reasons.
    """
    reasons = count_reasons(table)
    if reasons.total() > params.max_reject_fraction * len(table):
        raise PipelineError(
            f"{reasons.total()} of {len(table)} images are rejected ({format_counts(reasons)}), "
            f"past filter.max_reject_fraction={params.max_reject_fraction}: see {verdicts_csv}, "
            "and correct the source, or raise it"
        )
    clean_labels = {row.label for row in table if row.is_kept}
    for label in sorted({row.label for row in table} - clean_labels):
        rows = [row for row in table if row.label == label]
        raise PipelineError(
            f"all {len(rows)} images of class {label!r} are rejected "
            f"({format_counts(count_reasons(rows))}): see {verdicts_csv}, and correct or leave "
            "out the class"
        )


def count_reasons(table: Iterable[VerdictRow]) -> Counter[str]:
    """Count the rejected images by reason."""
    return Counter(row.reason for row in table if row.reason)
