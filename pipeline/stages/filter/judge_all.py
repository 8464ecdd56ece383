"""Judge every image by its bytes alone, in worker processes that a bad image may kill."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.core import shards
from pipeline.images import decoder_versions, memo, sandbox
from pipeline.images.chunk_runs import Isolation
from pipeline.images.header import RejectReason
from pipeline.images.mapping import map_images
from pipeline.images.memo import Memo
from pipeline.params import FilterParams
from pipeline.stages.filter import judgement
from pipeline.stages.filter.judgement import Judgement

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "reason": pa.string(),
        "format": pa.string(),
        "warnings": pa.list_(pa.string()),
        "width": pa.int32(),
        "height": pa.int32(),
        "phash": pa.uint64(),
        "patch_hashes": pa.binary(),
        "patch_places": pa.binary(),
        "thumbnail": pa.binary(),
        "stored": pa.binary(),
    }
)


def judge_batch(batch: pa.RecordBatch, params: FilterParams) -> pa.RecordBatch:
    """Judge a batch of raw images; return rows of `SCHEMA`."""
    rows, seconds = [], sandbox.seconds_for(params.max_megapixels)
    for key, image in zip(batch.column("id").to_pylist(), batch.column("bytes"), strict=True):
        data = image.as_py()
        shards.check_bytes([key], [data])
        with sandbox.deadline(seconds):
            result = judgement.judge(data, params)
        rows.append(_row(key, result))
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def _breaks_decoder(key: str) -> dict[str, Any]:
    return _row(key, Judgement(RejectReason.BREAKS_DECODER))


def _row(key: str, judgement: Judgement) -> dict[str, Any]:
    return {"id": key} | vars(judgement) | vars(judgement.appearance)


def open_memo(params: FilterParams) -> Memo:
    """The judgements that earlier runs remembered."""
    names = {"min_side", "max_megapixels", "store_side", "near_duplicate_crops"}
    values = params.model_dump(include=names)
    values["codecs"] = decoder_versions.codecs()
    key = memo.fingerprint(values, [__name__], decoder_versions.LIBRARIES)
    return Memo("filter", key, SCHEMA)


def judge_all(
    raw: Path, params: FilterParams, judgements: Memo, paths: Sequence[Path] | None = None
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Yield batches of raw images and their judgements, which are remembered in `judgements`.

    Args:
        paths: Some shards of `raw`; None for all.
    """
    return map_images(
        partial(judge_batch, params=params),
        raw,
        memo=judgements,
        title="filter",
        paths=paths,
        isolation=Isolation(_breaks_decoder, sandbox.memory_for(params.max_megapixels)),
    )
