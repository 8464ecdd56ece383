"""Write shards that share what they can with those of the last run.

One per cent more images, wherever the source has them, change about one per cent of the shards.
Where a row lies depends on the runs before; order.npy has the source's order (`source_order`).
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.core import atomic, shards
from pipeline.core.dvc_cache import LastOutput
from pipeline.core.shards import RowReader, source_order, writer
from pipeline.core.shards.matching import NEW, Positions, RowMatcher, find_intact
from pipeline.core.shards.packing import ShardUse, select_rewritten

COPIED_ROWS = 256  # rows of rewritten shards that are read at a time


@dataclass(frozen=True)
class _Shard:
    """A shard of the folder that is being written."""

    path: Path
    ranks: Positions
    """Of each of its rows, in the source's order."""
    name: str | None = None
    """Its name in the last run; None where it is new."""


def write(
    directory: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]], last: LastOutput
) -> int:
    """Like `shards.write`, but keep the shards of `last` whose rows are all in `rows`."""
    return write_batches(directory, schema, writer.to_batches(schema, rows), last)


def write_batches(
    directory: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    last: LastOutput,
    threads: int = 1,
) -> int:
    """Like `write`, for rows in Arrow batches of any size.

    Args:
        threads: Number of shards written at a time, each from its own memory.
    """
    intact = find_intact(last.files, schema)
    if not intact:
        return shards.write_batches(directory, schema, batches, threads)
    with atomic.replacing(directory) as staged:
        staged.mkdir()
        writer = _Writer(staged.parent, schema, threads)
        parts: list[Positions] = []
        new = writer.write("new", _select_new(batches, writer.read(intact.values()), parts))
        positions = np.concatenate([np.zeros(0, np.int64), *parts])
        files = list(intact.items()) + [(None, path) for path in new]
        content = _choose_shards(files, len(intact), positions, writer)
        _assemble(staged, content, last)
    return len(positions)


class _Writer:
    """Reads and writes shards in folders beside the one that is being replaced."""

    def __init__(self, workspace: Path, schema: pa.Schema, threads: int) -> None:
        self._workspace = workspace
        self._schema = schema
        self._threads = threads

    def read(self, files: Iterable[Path]) -> RowReader:
        return RowReader(list(files), self._schema.names)

    def write(self, name: str, batches: Iterable[pa.RecordBatch]) -> list[Path]:
        folder = self._workspace / name
        folder.mkdir()
        count = len(writer.write_shards(folder, self._schema, batches, self._threads))
        return [folder / writer.shard_name(number) for number in range(count)]


def _select_new(
    batches: Iterable[pa.RecordBatch], last: RowReader, positions: list[Positions]
) -> Iterator[pa.RecordBatch]:
    """Yield the rows that `last` lacks; append the position of each row to `positions`.

    Positions of new rows follow those of the last ones.
    """
    matcher, end = RowMatcher(last), last.count
    for batch in batches:
        matched = matcher.match(batch)
        is_new = matched == NEW
        count = int(is_new.sum())
        matched[is_new] = np.arange(end, end + count)
        positions.append(matched)
        end += count
        if count:  # a copy, as slices would keep all images of the batch in memory
            yield batch if count == len(batch) else batch.take(shards.array(np.flatnonzero(is_new)))


def _choose_shards(
    files: Sequence[tuple[str | None, Path]], last: int, positions: Positions, writer: _Writer
) -> list[_Shard]:
    """The shards to keep, and others with the rows of those that are not, which are written.

    Args:
        files: Name and path of each last shard, then of each new one.
        last: Number of last shards.
        positions: (N,): of each row, in the source's order, in all files together.
    """
    reader = writer.read(path for _, path in files)
    shard_of = np.searchsorted(reader.starts, positions, "right") - 1
    used = np.bincount(shard_of, minlength=len(files))
    sizes = np.array([path.stat().st_size for _, path in files])
    is_rewritten = select_rewritten(ShardUse(np.diff(reader.starts), used, sizes, last))
    rank_at = np.zeros(reader.count, np.int64)
    rank_at[positions] = np.arange(len(positions))
    content = []
    for shard in np.flatnonzero(~is_rewritten & (used > 0)).tolist():
        ranks = rank_at[reader.starts[shard] : reader.starts[shard + 1]]
        content.append(_Shard(files[shard][1], ranks, files[shard][0]))
    moving = np.flatnonzero(is_rewritten[shard_of])
    return content + _rewrite(moving, positions[moving], reader, writer)


def _rewrite(
    ranks: Positions, positions: Positions, reader: RowReader, writer: _Writer
) -> list[_Shard]:
    chunks = range(0, len(positions), COPIED_ROWS)
    rows = (reader.take(positions[start : start + COPIED_ROWS]) for start in chunks)
    paths = writer.write("rewritten", rows)
    starts = writer.read(paths).starts.tolist()
    return [
        _Shard(path, ranks[start:end])
        for path, (start, end) in zip(paths, itertools.pairwise(starts), strict=True)
    ]


def _assemble(staged: Path, content: Sequence[_Shard], last: LastOutput) -> None:
    """Link or move shards into a folder, and write the order of their rows."""
    ranks = {shard.name: shard.ranks for shard in content if shard.name}
    for name in ranks:
        last.place(name, staged / name)
    names = map(writer.shard_name, itertools.count())
    free = (name for name in names if name not in ranks)
    new = [shard for shard in content if not shard.name]
    for shard in sorted(new, key=lambda shard: int(shard.ranks[0])):
        name = next(free)
        shard.path.rename(staged / name)
        ranks[name] = shard.ranks
    by_name = [ranks[name] for name in sorted(ranks)]
    source_order.write_order(staged, np.argsort(np.concatenate([np.zeros(0, np.int64), *by_name])))
