"""Shards: the Arrow files of about 1,000 images or 64 MiB that stages pass on.

A shard is an Arrow IPC file (Feather V2), uncompressed, with one record batch, so that reading
maps it into memory. Its bytes are a pure function of its rows.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import atomic
from pipeline.core.columns import texts
from pipeline.core.errors import REPAIR, PipelineError
from pipeline.core.shards import source_order, writer
from pipeline.core.shards.writer import array, write_batch

__all__ = ["array", "write_batch"]

SPLITS = ("train", "val", "test")  # in the order of `split_rank`
MAX_MAPS = 64  # shards that are mapped into memory at a time
COPIED = 16  # shards whose columns are joined at a time

_SHARED = [
    pa.field("id", pa.string(), nullable=False),  # sha256 of the source's bytes, hex
    pa.field("label", pa.string(), nullable=False),
    pa.field("name", pa.string(), nullable=False),  # as the source called it
    pa.field("split", pa.string()),  # what the source prescribes: train, val, test, or null
    pa.field("group", pa.string()),  # owner, or other value that must stay in one split
    pa.field("owner", pa.string()),
    pa.field("licence", pa.string()),
]
FACTS = [field.name for field in _SHARED]  # the columns that raw and clean shards share
_BYTES = pa.field("bytes", pa.binary(), nullable=False)
STORED = "stored_sha256"  # of a clean image: `digest` of its bytes, which may differ from the id

RAW = pa.schema(
    [
        *_SHARED,
        pa.field("title", pa.string()),  # by the owner; most licences require it for attribution
        pa.field("url", pa.string()),
        pa.field("page_url", pa.string()),
        _BYTES,
    ]
)
CLEAN = pa.schema(
    [
        *_SHARED,
        pa.field("width", pa.int32(), nullable=False),  # pixels, of the stored image
        pa.field("height", pa.int32(), nullable=False),
        pa.field("phash", pa.uint64(), nullable=False),
        pa.field(STORED, pa.string(), nullable=False),
        pa.field("near_group", pa.string()),  # smallest id of its near-duplicates; null: has none
        _BYTES,  # an upright 8-bit RGB JPEG or PNG that decodes without a warning
    ]
)


_DEVIATION = b"deviation"  # in the metadata of a shard's schema


def with_deviation(schema: pa.Schema, deviation: str) -> pa.Schema:
    """A schema for shards of images that are not those that dataset.toml describes; "": they are.

    Args:
        deviation: How they differ, a clause for people.
    """
    return schema.with_metadata({_DEVIATION: deviation.encode()}) if deviation else schema


def read_deviation(directory: Path) -> str:
    """The deviation that the shards of a folder were written with; "" for none."""
    metadata = read(paths(directory)[0]).schema.metadata or {}
    return str(metadata.get(_DEVIATION, b"").decode())


def digest(data: bytes) -> str:
    """sha256 in hex: of the source's bytes it is the id, of the stored bytes `STORED`."""
    return hashlib.sha256(data).hexdigest()


def check_bytes(digests: Iterable[str], images: Iterable[bytes]) -> None:
    """Compare images with their digests: a disk may have damaged a shard that DVC trusts.

    Raises:
        PipelineError: an image has other bytes.
    """
    for expected, data in zip(digests, images, strict=True):
        if digest(data) != expected:
            raise PipelineError(f"the stored image {expected} has changed on disk: {REPAIR}")


def content_keys(batch: pa.RecordBatch) -> list[str]:
    """A key per image of a raw or clean shard, which changes with its id and with its bytes."""
    keys: list[str] = key_column(batch).to_pylist()
    return keys


def key_column(batch: pa.RecordBatch) -> pa.Array:
    """`content_keys` as an Arrow array."""
    ids = batch.column("id")
    if STORED not in batch.schema.names:  # a raw shard: the id is the digest of the bytes
        return ids
    return join_keys(ids, batch.column(STORED))


def join_keys(ids: pa.Array, stored: pa.Array) -> pa.Array:
    """The keys of clean images with these ids and digests of bytes, such as "id:digest"."""
    return pc.binary_join_element_wise(ids, stored, texts([":"] * len(ids)))


def split_rank(split: str | None) -> int:
    """Rank of a split: of copies in several splits, the one with the highest rank is used."""
    return SPLITS.index(split) if split else -1


def write(directory: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> int:
    """Replace `directory` by shards of `rows`, in their order; return the number of rows.

    The shard of a row depends only on the rows before it. Columns that a row lacks are null.
    """
    return write_batches(directory, schema, writer.to_batches(schema, rows))


def write_batches(
    directory: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], threads: int = 1
) -> int:
    """Like `write`, for rows in Arrow batches of any size.

    Args:
        threads: Number of shards written at a time, each from its own memory.
    """
    with atomic.replacing(directory) as staged:
        staged.mkdir()
        return sum(writer.write_shards(staged, schema, batches, threads))


def paths(directory: Path) -> list[Path]:
    """The shards of a folder, in order.

    Raises:
        PipelineError: there are none.
    """
    shards = sorted(directory.glob("*.arrow"))
    if not shards:
        raise PipelineError(f"{directory} has no shards: run `dvc repro` to make them")
    return shards


def read(path: Path) -> pa.RecordBatch:
    """Map one shard into memory; columns are read from disk on access.

    Raises:
        PipelineError: the file is not an Arrow file with one record batch.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if reader.num_record_batches != 1:
            raise PipelineError(f"{path} has {reader.num_record_batches} record batches, not 1")
        return reader.get_batch(0)
    except pa.ArrowInvalid as error:
        raise PipelineError(f"{path} is not a shard ({error}): {REPAIR}") from error


def columns(directory: Path, names: list[str]) -> pa.Table:
    """Read some columns of all shards of a folder in the source's order, without images' bytes.

    Raises:
        PipelineError: there are no shards, or another version of the pipeline wrote them.
    """
    files, tables = paths(directory), []
    try:
        for start in range(0, len(files), COPIED):
            batches = [read(path).select(names) for path in files[start : start + COPIED]]
            # Copied, so that the files need no longer be mapped: their pages count as memory.
            tables.append(pa.Table.from_batches(batches).combine_chunks())
    except KeyError as error:
        raise PipelineError(
            f"{directory} was written by another version of the pipeline: run `dvc repro`"
        ) from error
    table = pa.concat_tables(tables)
    order = source_order.read_order(directory, table.num_rows)
    return table if order is None else table.take(array(order))


def batches(directory: Path, names: list[str], size: int) -> Iterator[pa.RecordBatch]:
    """Yield rows of a folder in the source's order, in batches of at most `size`.

    Rows of one shard that follow each other are slices of it, others are copied.

    Raises:
        PipelineError: there are no shards, or they are damaged.
    """
    files = paths(directory)
    if (directory / source_order.NAME).exists():
        reader = RowReader(files, names)
        order = source_order.read_order(directory, reader.count)
        assert order is not None
        for start in range(0, len(order), size):
            yield reader.take(order[start : start + size])
        return
    for path in files:  # mapped one at a time
        batch = read(path).select(names)
        for start in range(0, len(batch), size):
            yield batch.slice(start, size)


class RowReader:
    """Reads rows of several shards by their positions in all of them together."""

    def __init__(self, files: Sequence[Path], names: list[str]) -> None:
        counts = [read(path).num_rows for path in files]
        self.starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        """The position of the first row of each shard, then the number of all rows."""
        self._files = files
        self._names = names
        self._open: dict[int, pa.RecordBatch] = {}

    @property
    def count(self) -> int:
        """Number of rows."""
        return int(self.starts[-1])

    def take(self, positions: npt.NDArray[np.integer]) -> pa.RecordBatch:
        """The rows at `positions` (N,), in that order; N is at least 1."""
        runs = [self.slice(start, length) for start, length in _runs(positions, self.starts)]
        return runs[0] if len(runs) == 1 else pa.concat_batches(runs)

    def slice(self, position: int, length: int) -> pa.RecordBatch:
        """Rows of one shard, without a copy."""
        shard = int(np.searchsorted(self.starts, position, "right")) - 1
        if shard not in self._open:
            if len(self._open) == MAX_MAPS:
                self._open.clear()
            self._open[shard] = read(self._files[shard]).select(self._names)
        return self._open[shard].slice(position - int(self.starts[shard]), length)


def _runs(
    positions: npt.NDArray[np.integer], starts: npt.NDArray[np.int64]
) -> Iterator[tuple[int, int]]:
    """First position and length of each run of positions that follow each other in one shard."""
    is_first = np.ones(len(positions), bool)
    is_first[1:] = (np.diff(positions.astype(np.int64)) != 1) | np.isin(positions[1:], starts)
    firsts = np.flatnonzero(is_first)
    lengths = np.diff(np.append(firsts, len(positions)))
    return zip(positions[firsts].tolist(), lengths.tolist(), strict=True)
