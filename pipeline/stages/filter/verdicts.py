"""Verdicts on all images: those on their bytes alone, then on copies and near-duplicates."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import shards
from pipeline.core.columns import release_memory
from pipeline.core.errors import PipelineError, format_counts
from pipeline.core.shards import source_order
from pipeline.core.verdicts_csv import KEEP, REJECT, VerdictRow
from pipeline.distributed.cluster import Work
from pipeline.distributed.other_machines import gather
from pipeline.images.format_detection import has_wrong_extension
from pipeline.images.hand_lists import Correction
from pipeline.images.header import RejectReason, Warn
from pipeline.images.memo import Memo
from pipeline.params import FilterParams
from pipeline.stages.filter.comparison import compare_images
from pipeline.stages.filter.judge_all import judge_all, open_memo
from pipeline.stages.filter.part import share

BATCH = 256  # images whose bytes are in memory at a time
COPIED = 64  # batches of facts that are copied together, so that their shards are unmapped
OWN = ["id", "name", "label", "split"]  # columns of raw shards
FACTS = [*OWN, "reason", "warnings", "near_group", "source_label"]  # of a verdict
UNREAD = [RejectReason.UNSUPPORTED.value, RejectReason.NOT_AN_IMAGE.value]
NO_CORRECTIONS: Mapping[str, Correction] = MappingProxyType({})
VERDICT = pa.schema([*shards.CLEAN, ("reason", pa.string()), ("warnings", pa.list_(pa.string()))])


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on all raw images."""

    raw: Path
    judgements: Memo
    """On the images' bytes alone."""
    facts: pa.Table
    """`FACTS` of all images, and the format, in the source's order."""

    def __len__(self) -> int:
        return int(self.facts.num_rows)

    def rows(self) -> Iterator[VerdictRow]:
        """Yield the rows of verdicts.csv."""
        for batch in self.facts.to_batches(max_chunksize=BATCH):
            columns = (batch.column(name).to_pylist() for name in FACTS)
            for key, name, label, split, reason, warnings, near, source_label in zip(
                *columns, strict=True
            ):
                yield VerdictRow(
                    key,
                    name,
                    label,
                    split or "",
                    REJECT if reason else KEEP,
                    reason or "",
                    " ".join(warnings),
                    near or "",
                    source_label or "",
                )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield batches of `VERDICT`: rows of clean shards, of rejected images too."""
        start = 0
        for batch in shards.batches(self.raw, shards.RAW.names, BATCH):
            rows = self.facts.slice(start, len(batch)).combine_chunks().to_batches()[0]
            start += len(batch)
            judgements = self.judgements.get(shards.content_keys(batch))
            columns = {name: batch.column(name) for name in shards.FACTS} | {
                "width": judgements.column("width"),
                "height": judgements.column("height"),
                "phash": judgements.column("phash"),
                shards.STORED: _stored_digests(batch, judgements),
                "bytes": _stored_bytes(batch, judgements),
            }
            of_verdict = ("label", "near_group", "reason", "warnings")
            columns |= {name: rows.column(name) for name in of_verdict}
            yield pa.RecordBatch.from_pydict(columns, schema=VERDICT)


def judge_images(
    raw: Path,
    by_hand: Mapping[str, str],
    params: FilterParams,
    corrections: Mapping[str, Correction] = NO_CORRECTIONS,
) -> Verdicts:
    """Judge every raw image by its bytes, then compare all with each other.

    Args:
        by_hand: Ids to reject, with why.
        corrections: The labels of images that a person relabelled, by id.
    """
    judgements = open_memo(params)
    # Of the arguments, a part reads only the shards.
    work = Work("filter", ["-", str(raw), "-", "-"], raw, lambda _: {}, [judgements])
    shared = gather(work, partial(share, judgements))
    facts = _join(itertools.starmap(_facts, judge_all(raw, params, judgements)))
    release_memory()
    shared.offer(shards.paths(raw))
    order = source_order.read_order(raw, facts.num_rows)
    if order is not None:
        facts = facts.take(shards.array(order))
    facts = _correct_labels(facts, corrections)
    reasons, near_groups = compare_images(facts, by_hand, params, judgements.get)
    columns = {name: facts.column(name) for name in [*OWN, "warnings", "format", "source_label"]}
    columns |= {"reason": reasons, "near_group": near_groups}
    return Verdicts(raw, judgements, pa.table(columns))


def _facts(batch: pa.RecordBatch, judgements: pa.RecordBatch) -> pa.RecordBatch:
    """What a verdict needs of images besides their bytes."""
    columns = {name: batch.column(name) for name in OWN}
    columns |= {name: judgements.column(name) for name in ("reason", "phash", "format")}
    return pa.RecordBatch.from_pydict(columns | {"warnings": _warnings(batch, judgements)})


def _correct_labels(facts: pa.Table, corrections: Mapping[str, Correction]) -> pa.Table:
    """`facts` with corrected labels, and the source's as `source_label` where they differ."""
    source_labels = facts.column("label")
    ids = pa.array(list(corrections), pa.string())
    labels = pa.array([correction.label for correction in corrections.values()], pa.string())
    corrected = pc.coalesce(labels.take(pc.index_in(facts.column("id"), ids)), source_labels)
    replaced = pc.if_else(pc.equal(corrected, source_labels), None, source_labels)
    position = facts.column_names.index("label")
    return facts.set_column(position, "label", corrected).append_column("source_label", replaced)


def _join(batches: Iterator[pa.RecordBatch]) -> pa.Table:
    groups = iter(lambda: list(itertools.islice(batches, COPIED)), [])
    table = pa.Table.from_batches([pa.concat_batches(group) for group in groups])
    # The ids in one piece, because taking rows of many pieces joins them first, every time.
    ids = table.column("id").combine_chunks()
    return table.set_column(table.column_names.index("id"), "id", ids)


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


def check_rejects(facts: pa.Table, params: FilterParams, verdicts_csv: Path) -> None:
    """Refuse a data set with too many rejected images.

    Args:
        facts: label and reason of every image.

    Raises:
        PipelineError: nothing of a class is left, or too little of all, with the reasons.
    """
    reasons = count_reasons(facts)
    if reasons.total() > params.max_reject_fraction * facts.num_rows:
        raise PipelineError(
            f"{reasons.total()} of {facts.num_rows} images are rejected "
            f"({format_counts(reasons)}), past filter.max_reject_fraction="
            f"{params.max_reject_fraction}: see {verdicts_csv}, and correct the source, or raise it"
        )
    is_clean = facts.column("reason").is_null()
    clean_labels = set(facts.column("label").filter(is_clean).unique().to_pylist())
    for label in sorted(set(facts.column("label").unique().to_pylist()) - clean_labels):
        of_label = facts.filter(pc.equal(facts.column("label"), label))
        raise PipelineError(
            f"every image of class {label!r} is rejected "
            f"({format_counts(count_reasons(of_label))}): see {verdicts_csv}, and correct or leave "
            "out the class"
        )


def count_reasons(facts: pa.Table) -> Counter[str]:
    """Count the rejected images by reason, the most frequent first."""
    counts = facts.column("reason").drop_null().value_counts().to_pylist()
    return Counter({count["values"]: count["counts"] for count in counts})


def count_unread(facts: pa.Table) -> Counter[str]:
    """Count the files that are not read by what people call their format, where that is known."""
    is_unread = pc.is_in(facts.column("reason"), pa.array(UNREAD))
    names = facts.filter(pc.and_(is_unread, pc.not_equal(facts.column("format"), "")))
    counts = names.column("format").value_counts().to_pylist()
    return Counter({count["values"]: count["counts"] for count in counts})
