"""Shards: the Arrow files of about 1,000 images or 64 MiB that stages pass on.

A shard is an Arrow IPC file (Feather V2), uncompressed, with one record batch, so that reading
maps it into memory. Its bytes are a pure function of its rows.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import atomic
from pipeline.core.errors import REPAIR, PipelineError

SPLITS = ("train", "val", "test")  # in the order of `split_rank`
ROWS = 1000
BYTES = 64 * 2**20

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
    ids: list[str] = batch.column("id").to_pylist()
    if STORED not in batch.schema.names:  # a raw shard: the id is the digest of the bytes
        return ids
    return list(map(content_key, ids, batch.column(STORED).to_pylist()))


def content_key(key: str, stored: str) -> str:
    """The key of a clean image with the id `key` and the digest `stored`."""
    return f"{key}:{stored}"


def split_rank(split: str | None) -> int:
    """Rank of a split: of copies in several splits, the one with the highest rank is used."""
    return SPLITS.index(split) if split else -1


def write(directory: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> int:
    """Replace `directory` by shards of `rows`, in their order; return the number of rows.

    The shard of a row depends only on the rows before it. Columns that a row lacks are null.
    """
    return write_batches(directory, schema, _batches(schema, rows))


def write_batches(
    directory: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], threads: int = 1
) -> int:
    """Like `write`, for rows in Arrow batches of any size.

    Args:
        threads: Number of shards written at a time, each from its own memory.
    """
    written = 0
    joiners = [_Joiner() for _ in range(threads)]
    running: deque[Future[int]] = deque()
    with atomic.replacing(directory) as staged, ThreadPoolExecutor(threads) as pool:
        staged.mkdir()
        for number, parts in enumerate(_group_by_shard(batches)):
            if len(running) == threads:  # its joiner is reused next
                written += running.popleft().result()
            joiner = joiners[number % threads]
            path = staged / f"{number:05d}.arrow"
            running.append(pool.submit(_write_joined, path, schema, parts, joiner))
        written += sum(future.result() for future in running)
    return written


def _write_joined(
    path: Path, schema: pa.Schema, parts: Sequence[pa.RecordBatch], joiner: "_Joiner"
) -> int:
    facts = [part.drop_columns(["bytes"]) for part in parts]
    whole = pa.Table.from_batches(facts).combine_chunks().to_batches()[0]
    joined = joiner.join([part.column("bytes") for part in parts])
    columns = [*whole.columns, joined]  # the bytes are last in every schema
    with pa.OSFile(str(path), "wb") as sink:
        write_batch(sink, pa.RecordBatch.from_arrays(columns, schema=schema))
    atomic.sync(path)  # here, while the next shards are computed
    return int(whole.num_rows)


class _Joiner:
    """Joins arrays of binary values in memory that it reuses: fresh memory is most of the cost."""

    def __init__(self) -> None:
        self._memory = np.empty(BYTES, np.uint8)

    def join(self, arrays: Sequence[pa.Array]) -> pa.Array:
        """All values as one array, valid until the next call."""
        lengths = [pc.binary_length(array).to_numpy() for array in arrays]
        offsets = np.concatenate([[0], *lengths]).cumsum().astype(np.int32)
        if len(self._memory) < offsets[-1]:  # one image larger than BYTES
            self._memory = np.empty(offsets[-1], np.uint8)
        start = 0
        for array, sizes in zip(arrays, lengths, strict=True):
            _, ends, data = array.buffers()
            first, size = np.frombuffer(ends, np.int32)[array.offset], int(sizes.sum())
            if size:
                source = np.frombuffer(data, np.uint8)
                self._memory[start : start + size] = source[first : first + size]
            start += size
        # Cut to size: Arrow pads a file with what follows in the buffer, here older images.
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self._memory[:start])]
        return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def _batches(schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> Iterator[pa.RecordBatch]:
    pending: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        pending.append(row)
        size += len(row["bytes"])
        if len(pending) == ROWS or size > BYTES:
            yield pa.RecordBatch.from_pylist(pending, schema=schema)
            pending, size = [], 0
    if pending:
        yield pa.RecordBatch.from_pylist(pending, schema=schema)


def _group_by_shard(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Split and group batches into the batches of each shard."""
    pending: list[pa.RecordBatch] = []
    count = size = 0
    for batch in batches:
        start = 0
        for row, length in enumerate(pc.binary_length(batch.column("bytes")).to_pylist()):
            if count and (count == ROWS or size + length > BYTES):
                yield [*pending, batch.slice(start, row - start)]
                pending, count, size, start = [], 0, 0, row
            count += 1
            size += length
        pending.append(batch.slice(start))
        if count == ROWS:  # do not keep it until the next batch arrives
            yield pending
            pending, count, size = [], 0, 0
    if count:
        yield pending


def array(values: npt.NDArray[Any]) -> pa.Array:
    """Numbers as an Arrow array, without a copy. `pa.array` imports pandas, which takes 0.3 s."""
    kind = pa.from_numpy_dtype(values.dtype)
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(kind, len(values), [None, buffer])


def write_batch(sink: pa.NativeFile, batch: pa.RecordBatch) -> None:
    """Write one Arrow file with one record batch."""
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


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
    """Read some columns of all shards of a folder, without the images' bytes.

    Raises:
        PipelineError: there are no shards, or another version of the pipeline wrote them.
    """
    try:
        return pa.Table.from_batches([read(path).select(names) for path in paths(directory)])
    except KeyError as error:
        raise PipelineError(
            f"{directory} was written by another version of the pipeline: run `dvc repro`"
        ) from error
