"""Find the rows of a stage's last shards among those that it now writes."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.core.shards import writer

Positions = npt.NDArray[np.int64]
Digests = npt.NDArray[np.bytes_]
DIGEST_BYTES = 16
NEW = -1  # the position of a row that no last shard has


def find_intact(files: Mapping[str, Path], schema: pa.Schema) -> dict[str, Path]:
    """The files that are shards of exactly this schema, by name, sorted."""
    named = {name: files[name] for name in sorted(files) if writer.SHARD_NAME.fullmatch(name)}
    return {name: path for name, path in named.items() if _is_intact(path, schema)}


def _is_intact(path: Path, schema: pa.Schema) -> bool:
    try:
        batch = shards.read(path)
        batch.validate(full=True)  # Arrow follows offsets without looking
    except (PipelineError, pa.ArrowException, OSError):
        return False
    return bool(batch.schema.equals(schema, check_metadata=True))


class RowMatcher:
    """The rows of the last shards; each can be matched once, by an equal row.

    No shard is trusted: a row matches only if all its columns are equal, the image included.
    Memory: some 36 bytes per row.
    """

    def __init__(self, reader: shards.RowReader) -> None:
        self._reader = reader
        starts = itertools.pairwise(reader.starts.tolist())
        digests = np.empty(reader.count, f"S{DIGEST_BYTES}")
        for start, end in starts:
            digests[start:end] = _digests(reader.slice(start, end - start))
        self._order = np.argsort(digests, kind="stable")
        self._sorted = digests[self._order]
        self._used = np.zeros(reader.count, np.uint32)
        """How many rows of a digest are used, at the first of them in `_sorted`."""

    def match(self, batch: pa.RecordBatch) -> Positions:
        """For each row of `batch`, the position of an unused row that equals it, or `NEW`."""
        digests = _digests(batch)
        firsts = np.searchsorted(self._sorted, digests, "left")
        ends = np.searchsorted(self._sorted, digests, "right")
        positions = np.full(len(digests), NEW, np.int64)
        for row in np.flatnonzero(firsts < ends).tolist():
            first = firsts[row]
            place = first + self._used[first]
            if place < ends[row]:
                self._used[first] += 1
                positions[row] = self._order[place]
        for start, length in list(matching_runs(positions, self._reader.starts)):
            if not self._is_equal(batch.slice(start, length), int(positions[start])):
                for row in range(start, start + length):
                    if not self._is_equal(batch.slice(row, 1), int(positions[row])):
                        positions[row] = NEW
        return positions

    def _is_equal(self, rows: pa.RecordBatch, position: int) -> bool:
        return bool(self._reader.slice(position, len(rows)).equals(rows))


def matching_runs(positions: Positions, starts: Positions) -> Iterator[tuple[int, int]]:
    """First row and length of each run of matched rows that are side by side in a shard."""
    is_first = np.ones(len(positions), bool)
    is_first[1:] = (np.diff(positions) != 1) | np.isin(positions[1:], starts)
    firsts = np.flatnonzero(is_first)
    lengths = np.diff(np.append(firsts, len(positions)))
    for first, length in zip(firsts.tolist(), lengths.tolist(), strict=True):
        if positions[first] != NEW:
            yield first, length


def _digests(batch: pa.RecordBatch) -> Digests:
    """(N,): of all columns but the images, whose digests are among them."""
    columns = [column.to_pylist() for column in batch.drop_columns(["bytes"]).columns]
    rows = (repr(row).encode("utf-8", "surrogatepass") for row in zip(*columns, strict=True))
    digests = [hashlib.blake2b(row, digest_size=DIGEST_BYTES).digest() for row in rows]
    return np.array(digests, f"S{DIGEST_BYTES}")
