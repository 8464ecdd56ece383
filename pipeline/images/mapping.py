"""Run a function over the images of shards, in parallel, and remember the results per image.

The function gets the id and the bytes of each image, and nothing else of the shard: all that it
reads is in the key of the memo.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.core import shards
from pipeline.core.progress import bar
from pipeline.images.chunk_runs import (
    Chunk,
    Function,
    Isolation,
    Rows,
    StandIn,
    run_chunks,
    run_isolated,
    take,
    with_keys,
)
from pipeline.images.key_index import KeySet, UInt64Array, digest_keys
from pipeline.images.memo import Memo, ResultStore

CHUNK = 256  # images per task of a worker; a killed run loses the chunks in progress
FIRST_CHUNK = 16  # images in the first chunk in one process, before its speed is measured
SECONDS_PER_CHUNK = 4  # that a chunk in one process should take
GROUP = 64  # shards whose keys are looked up in the memo together

# From rows of shards, in order, and how many of them the next result is of, to the results.
Stream = Callable[[Sequence[Chunk], Iterator[int]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class _ShardPlan:
    """Rows of one shard to yield, and in chunks those without a remembered result."""

    path: Path
    rows: Rows
    chunks: list[Rows]


def map_images(
    function: Function,
    directory: Path,
    *,
    memo: Memo,
    title: str,
    only: KeySet | None = None,
    paths: Sequence[Path] | None = None,
    jobs: int = -1,
    isolation: Isolation | None = None,
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Yield batches of rows of `directory`, in order, with the results of `function` for them.

    Args:
        function: Pure per image: takes the `INPUTS` of any number of rows of a shard, returns as
            many rows of the memo's schema. With several jobs it must be picklable.
        only: The ids to compute; rows with other ids are not yielded.
        paths: Some shards of `directory`, in order; None for all.
        jobs: Parallel workers as joblib counts them; -1 means all cores of this machine.
        isolation: What to do with images that break their worker. Without it, the run fails.
    """
    plans = _plan(paths or shards.paths(directory), only, memo, CHUNK)
    chunks = _missing_chunks(plans)
    results: Iterator[pa.RecordBatch | StandIn]
    if isolation is not None:
        results = run_isolated(function, chunks, jobs, memo.schema, isolation)
    else:
        # For a single chunk, starting a worker would take longer than it saves.
        results = run_chunks(function, chunks, jobs if len(chunks) > 1 else 1)
    for plan in _completed(plans, results, memo, title):
        for rows in _chunks(plan.rows, CHUNK):
            batch = take(plan.path, rows)
            yield batch, memo.get(shards.key_column(batch))


def remember(
    function: Stream,
    directory: Path,
    memo: ResultStore,
    *,
    title: str,
    only: KeySet,
    paths: Sequence[Path] | None = None,
    most: int,
) -> None:
    """Compute, in this process, results that `memo` lacks for the ids in `only`.

    `function` is called once, for all of them. Results are stored in chunks as they come, beside
    the work on the next ones. Chunks have at most `most` images, and fewer if they are slow, so
    that a kill loses seconds of work. Only images to compute are read.
    """
    plans = _plan(paths or shards.paths(directory), only, memo, most)
    chunks = _missing_chunks(plans)
    if not chunks:
        return
    sizes = _AdaptiveSizes(chunks, most)
    pending: deque[Chunk] = deque()
    with bar(title, total=_count_missing(plans)) as progress, ThreadPoolExecutor(1) as writer:
        storing: Future[None] = writer.submit(lambda: None)
        for results in function(chunks, sizes.counted(pending)):
            path, rows = pending.popleft()
            storing.result()
            storing = writer.submit(memo.add, with_keys(take(path, rows), results))
            progress.update(len(rows))
            sizes.adjust(len(rows))
        storing.result()


class _AdaptiveSizes:
    """Parts of chunks that take about `SECONDS_PER_CHUNK` each."""

    def __init__(self, chunks: Sequence[Chunk], most: int) -> None:
        self._chunks, self._most = chunks, most
        self._size = min(FIRST_CHUNK, most)
        self._start, self._done = time.monotonic(), 0

    def counted(self, pending: deque[Chunk]) -> Iterator[int]:
        """Yield the number of images of each part, and append it to `pending`."""
        for path, chunk in self._chunks:
            start = 0
            while start < len(chunk):
                rows = chunk[start : start + self._size]
                pending.append((path, rows))
                start += len(rows)
                yield len(rows)

    def adjust(self, images: int) -> None:
        """Choose the size of the next parts, now that `images` more have been computed.

        By the mean speed so far: results may come in bursts.
        """
        self._done += images
        seconds = max(time.monotonic() - self._start, 1e-3)
        self._size = max(1, min(self._most, int(self._done * SECONDS_PER_CHUNK / seconds)))


def _missing_chunks(plans: Sequence[_ShardPlan]) -> list[Chunk]:
    return [(plan.path, chunk) for plan in plans for chunk in plan.chunks]


def _count_missing(plans: Sequence[_ShardPlan]) -> int:
    return sum(len(chunk) for plan in plans for chunk in plan.chunks)


def _completed(
    plans: Sequence[_ShardPlan],
    results: Iterator[pa.RecordBatch | StandIn],
    memo: Memo,
    title: str,
) -> Iterator[_ShardPlan]:
    """Yield each shard as soon as the memo has all its results."""
    with bar(title, total=_count_missing(plans)) as progress:
        for plan in plans:
            missing = _count_missing([plan])
            while missing:
                result = next(results)
                if isinstance(result, StandIn):
                    result = result.batch
                    memo.hold(result)
                else:
                    memo.add(result)
                missing -= result.num_rows
                progress.update(result.num_rows)
            yield plan


def selected_keys(path: Path, only: KeySet | None) -> pa.Array:
    """The keys of the images in a shard whose ids are in `only`, or of all."""
    return _keys(path, _select(path, only))


def _plan(
    paths: Sequence[Path], only: KeySet | None, memo: ResultStore, size: int
) -> list[_ShardPlan]:
    # Absolute: workers may have been started in another working directory, for an earlier map.
    paths = [path.absolute() for path in paths]
    selected = [_select(path, only) for path in paths]
    missing, digests = [], []
    for start in range(0, len(paths), GROUP):
        group = slice(start, start + GROUP)
        rows = selected[group]
        keys = pa.concat_arrays(map(_keys, paths[group], rows))
        ends = np.cumsum(list(map(len, rows)))[:-1]
        is_missing = np.split(memo.missing(keys), ends)
        missing += [part[lacks] for part, lacks in zip(rows, is_missing, strict=True)]
        parts = np.split(digest_keys(keys), ends)
        digests += [part[lacks] for part, lacks in zip(parts, is_missing, strict=True)]
    first = _without_copies(paths, missing, digests)
    return [
        _ShardPlan(path, rows, _chunks(part, size))
        for path, rows, part in zip(paths, selected, first, strict=True)
    ]


def _select(path: Path, only: KeySet | None) -> Rows:
    """The rows with an id in `only`."""
    batch = shards.read(path)
    if only is None:
        return np.arange(batch.num_rows, dtype=np.int32)
    return np.flatnonzero(only.contains(batch.column("id"))).astype(np.int32)


def _keys(path: Path, rows: Rows) -> pa.Array:
    batch = shards.read(path)
    names = [name for name in ("id", shards.STORED) if name in batch.schema.names]
    return shards.key_column(batch.select(names).take(shards.array(rows)))


def _without_copies(
    paths: Sequence[Path], rows: Sequence[Rows], digests: Sequence[UInt64Array]
) -> list[Rows]:
    """Rows of shards with each key once, where it comes first.

    Args:
        digests: Of the keys of the rows; equal ones may be of different keys.
    """
    values, counts = np.unique(np.concatenate(digests), return_counts=True)
    repeated = values[counts > 1]
    seen: set[str] = set()
    unique = []
    for path, part, part_digests in zip(paths, rows, digests, strict=True):
        is_first = np.ones(len(part), bool)
        places = np.flatnonzero(np.isin(part_digests, repeated))
        for place, key in zip(places, _keys(path, part[places]).to_pylist(), strict=True):
            is_first[place] = key not in seen
            seen.add(key)
        unique.append(part[is_first])
    return unique


def _chunks(rows: Rows, size: int) -> list[Rows]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
