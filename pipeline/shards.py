"""The contract between stages: images travel in Arrow files of about 1,000 images or 64 MiB.

A shard is an Arrow IPC file (Feather V2), uncompressed, with one record batch, so that reading
maps it into memory. Its bytes are a pure function of its rows.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import atomic
from pipeline.errors import PipelineError

ROWS = 1000
BYTES = 64 * 2**20

_FACTS = [
    pa.field("id", pa.string(), nullable=False),  # sha256 of the source's bytes, hex
    pa.field("label", pa.string(), nullable=False),
    pa.field("name", pa.string(), nullable=False),  # as the source called it
    pa.field("split", pa.string()),  # what the source prescribes: train, val, test, or null
    pa.field("group", pa.string()),  # owner or other thing that must not straddle splits
    pa.field("owner", pa.string()),
    pa.field("licence", pa.string()),
]
_BYTES = pa.field("bytes", pa.binary(), nullable=False)

RAW = pa.schema(
    [
        *_FACTS,
        pa.field("title", pa.string()),  # by the owner; the attribution of most licences wants it
        pa.field("url", pa.string()),
        pa.field("page_url", pa.string()),
        _BYTES,
    ]
)
CLEAN = pa.schema(
    [
        *_FACTS,
        pa.field("width", pa.int32(), nullable=False),  # pixels, of the stored image
        pa.field("height", pa.int32(), nullable=False),
        pa.field("phash", pa.uint64(), nullable=False),
        pa.field("near_group", pa.string()),  # smallest id of its near-duplicates; null: has none
        _BYTES,  # an upright 8-bit RGB JPEG or PNG that decodes without a warning
    ]
)


def write(directory: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> int:
    """Replace `directory` by shards of `rows`, in their order; return how many rows there were.

    Which shard a row falls into depends on the rows before it alone. Columns a row does not
    give are null.
    """
    written = 0
    with atomic.replacing(directory) as staged:
        staged.mkdir()
        for number, batch in enumerate(_batches(schema, rows)):
            write_batch(staged / f"{number:05d}.arrow", batch)
            written += batch.num_rows
    return written


def _batches(schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> Iterator[pa.RecordBatch]:
    pending: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        length = len(row["bytes"])
        if pending and (len(pending) == ROWS or size + length > BYTES):
            yield pa.RecordBatch.from_pylist(pending, schema=schema)
            pending, size = [], 0
        pending.append(row)
        size += length
    if pending:
        yield pa.RecordBatch.from_pylist(pending, schema=schema)


def write_batch(path: Path, batch: pa.RecordBatch) -> None:
    """Write one Arrow file with one record batch."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def paths(directory: Path) -> list[Path]:
    """The shards of a folder, in order.

    Raises:
        PipelineError: there are none.
    """
    found = sorted(directory.glob("*.arrow"))
    if not found:
        raise PipelineError(f"{directory} holds no shards: run `dvc repro` to make them")
    return found


def read(path: Path) -> pa.RecordBatch:
    """One shard, mapped into memory: columns are read from disk when they are looked at.

    Raises:
        PipelineError: the file is not an Arrow file with one record batch.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if reader.num_record_batches != 1:
            raise PipelineError(f"{path} has {reader.num_record_batches} record batches, not 1")
        return reader.get_batch(0)
    except pa.ArrowInvalid as error:
        raise PipelineError(f"{path} is not a shard ({error}): delete it and run again") from error


def columns(directory: Path, names: list[str]) -> pa.Table:
    """Some columns of all shards of a folder, without touching the images' bytes."""
    return pa.Table.from_batches([read(path).select(names) for path in paths(directory)])
