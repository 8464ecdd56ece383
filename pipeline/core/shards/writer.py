"""Write rows as Arrow files of at most 1,000 images or 64 MiB."""

import re
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

ROWS = 1000
BYTES = 64 * 2**20
SHARD_NAME = re.compile(r"\d{5,}\.arrow")


def write_shards(
    folder: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], threads: int = 1
) -> list[int]:
    """Write the shards 00000.arrow, 00001.arrow, ... of all rows; return the rows of each.

    Args:
        threads: Number of shards written at a time, each from its own memory.
    """
    counts: list[int] = []
    joiners = [_Joiner() for _ in range(threads)]
    running: deque[Future[int]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for number, parts in enumerate(_group_by_shard(batches)):
            if len(running) == threads:  # its joiner is reused next
                counts.append(running.popleft().result())
            joiner = joiners[number % threads]
            path = folder / shard_name(number)
            running.append(pool.submit(_write_joined, path, schema, parts, joiner))
        return counts + [future.result() for future in running]


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"{number:05d}.arrow"


def _write_joined(
    path: Path, schema: pa.Schema, parts: Sequence[pa.RecordBatch], joiner: "_Joiner"
) -> int:
    facts = [part.drop_columns(["bytes"]) for part in parts]
    # With an empty one, so that a single part is copied too: a slice has all bytes of its batch.
    whole = pa.concat_batches([*facts, facts[0].slice(0, 0)])
    image_bytes = joiner.join([part.column("bytes") for part in parts])
    columns = [*whole.columns, image_bytes]  # the bytes are last in every schema
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


def to_batches(schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> Iterator[pa.RecordBatch]:
    """Collect rows in batches of about a shard's size. Columns that a row lacks are null."""
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
