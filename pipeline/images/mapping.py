"""Run a function over the images of shards, in parallel, and remember the results per image.

The function gets the id and the bytes of each image, and nothing else of the shard: all that it
reads is in the key of the memo.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import BACKENDS, get_active_backend

from pipeline.core import shards
from pipeline.core.progress import bar
from pipeline.images.isolated_pool import IsolatedFunction, isolated_map, shared_pool
from pipeline.images.key_index import KeySet, UInt64Array, digest_keys
from pipeline.images.memo import KEY, Memo, ResultStore
from pipeline.images.worker import Cause, WorkerFailure

CHUNK = 256  # images per task of a worker; a killed run loses the chunks in progress
FIRST_CHUNK = 16  # images in the first chunk in one process, before its speed is measured
SECONDS_PER_CHUNK = 4  # that a chunk in one process should take
GROUP = 64  # shards whose keys are looked up in the memo together

INPUTS = ["id", "bytes"]  # the columns that a function gets

Function = Callable[[pa.RecordBatch], pa.RecordBatch]
Rows = npt.NDArray[np.int32]  # ascending rows of a shard
Chunk = tuple[Path, Rows]
# From rows of shards, in order, and how many of them the next result is of, to the results.
Stream = Callable[[Sequence[Chunk], Iterator[int]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Isolation:
    """What a map does with images that break their worker."""

    stand_in: Callable[[str], Mapping[str, Any]]
    """The result for an image that does, by its id. It is not remembered: how long an image takes,
    and whether it crashes, may depend on the machine."""
    memory: int
    """Bytes that a worker may allocate for a chunk."""


@dataclass(frozen=True)
class _StandIn:
    """The result of an image that breaks its worker."""

    batch: pa.RecordBatch


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
    jobs: int = -1,
    isolation: Isolation | None = None,
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Yield batches of rows of `directory`, in order, with the results of `function` for them.

    Args:
        function: Pure per image: takes the `INPUTS` of any number of rows of a shard, returns as
            many rows of the memo's schema. With several jobs it must be picklable.
        only: The ids to compute; rows with other ids are not yielded.
        jobs: Parallel workers as joblib counts them; -1 means all cores.
            `joblib.parallel_config` can replace the backend, for example by that of a cluster.
        isolation: What to do with images that break their worker. Without it, the run fails.
    """
    plans = _plan(directory, only, memo, CHUNK)
    chunks = _missing_chunks(plans)
    results: Iterator[pa.RecordBatch | _StandIn]
    if isolation is not None:
        results = _isolated(function, chunks, jobs, memo.schema, isolation)
    else:
        # For a single chunk, starting a worker would take longer than it saves.
        results = _parallel(partial(_apply, function), chunks, jobs if len(chunks) > 1 else 1)
    for plan in _completed(plans, results, memo, title):
        for rows in _chunks(plan.rows, CHUNK):
            batch = _take(plan.path, rows)
            yield batch, memo.get(shards.key_column(batch))


def remember(
    function: Stream,
    directory: Path,
    memo: ResultStore,
    *,
    title: str,
    only: KeySet,
    most: int,
) -> None:
    """Compute, in this process, results that `memo` lacks for the ids in `only`.

    `function` is called once, for all of them. Results are stored in chunks as they come, beside
    the work on the next ones. Chunks have at most `most` images, and fewer if they are slow, so
    that a kill loses seconds of work. Only images to compute are read.
    """
    plans = _plan(directory, only, memo, most)
    chunks = _missing_chunks(plans)
    if not chunks:
        return
    sizes = _AdaptiveSizes(chunks, most)
    given: deque[Chunk] = deque()
    with bar(title, total=_count_missing(plans)) as progress, ThreadPoolExecutor(1) as writer:
        storing: Future[None] = writer.submit(lambda: None)
        for results in function(chunks, sizes.counted(given)):
            path, rows = given.popleft()
            storing.result()
            storing = writer.submit(memo.add, _with_keys(_take(path, rows), results))
            progress.update(len(rows))
            sizes.adjust(len(rows))
        storing.result()


class _AdaptiveSizes:
    """Parts of chunks that take about `SECONDS_PER_CHUNK` each."""

    def __init__(self, chunks: Sequence[Chunk], most: int) -> None:
        self._chunks, self._most = chunks, most
        self._size = min(FIRST_CHUNK, most)
        self._start, self._done = time.monotonic(), 0

    def counted(self, given: deque[Chunk]) -> Iterator[int]:
        """Yield the number of images of each part, and append it to `given`."""
        for path, chunk in self._chunks:
            start = 0
            while start < len(chunk):
                rows = chunk[start : start + self._size]
                given.append((path, rows))
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
    results: Iterator[pa.RecordBatch | _StandIn],
    memo: Memo,
    title: str,
) -> Iterator[_ShardPlan]:
    """Yield each shard as soon as the memo has all its results."""
    with bar(title, total=_count_missing(plans)) as progress:
        for plan in plans:
            missing = _count_missing([plan])
            while missing:
                result = next(results)
                if isinstance(result, _StandIn):
                    result = result.batch
                    memo.hold(result)
                else:
                    memo.add(result)
                missing -= result.num_rows
                progress.update(result.num_rows)
            yield plan


def _plan(directory: Path, only: KeySet | None, memo: ResultStore, size: int) -> list[_ShardPlan]:
    # Absolute: workers may have been started in another working directory, for an earlier map.
    paths = shards.paths(directory.absolute())
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


def _take(path: Path, rows: Rows) -> pa.RecordBatch:
    batch = shards.read(path)
    if rows[-1] - rows[0] + 1 == len(rows):
        return batch.slice(rows[0], len(rows))  # without a copy
    return batch.take(shards.array(rows))


def _parallel(
    function: Callable[[Chunk], pa.RecordBatch], chunks: Iterable[Chunk], jobs: int
) -> Iterator[pa.RecordBatch]:
    """Yield the result of each chunk, in order; joblib's backend runs them.

    Raises:
        BrokenProcessPool: a worker died. The next chunk in order need not be the cause.
    """
    results: Iterator[pa.RecordBatch] = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(function)(chunk) for chunk in list(chunks)
    )
    return results


def _parallel_run(
    function: Callable[[Chunk], pa.RecordBatch], chunks: Iterable[Chunk], jobs: int
) -> Iterator[pa.RecordBatch | WorkerFailure]:
    """As `_parallel`, as an `isolated_pool.Run`."""
    rest = list(chunks)
    while rest:
        try:
            for result in _parallel(function, rest, jobs):
                del rest[0]
                yield result
        except (BrokenProcessPool, MemoryError) as error:
            del rest[0]
            yield WorkerFailure(Cause.MACHINE, str(error))


def _isolated(
    function: Function, chunks: Sequence[Chunk], jobs: int, schema: pa.Schema, isolation: Isolation
) -> Iterator[pa.RecordBatch | _StandIn]:
    """Yield the results of the chunks, in order, one for each image of a chunk that failed."""
    isolated_function = IsolatedFunction(
        partial(_apply, function),
        isolation.memory,
        _split,
        partial(_stand_in, schema, isolation),
        _name,
    )
    processes = effective_n_jobs(jobs)
    if _is_backend_loky():
        run = shared_pool(processes).run
    else:
        run = partial(_parallel_run, jobs=max(2, processes))
    for results in isolated_map(isolated_function, chunks, run):
        yield from results


def _is_backend_loky() -> bool:
    """Whether `joblib.parallel_config` leaves the work to processes of this machine."""
    backend, _ = get_active_backend()
    return type(backend) is BACKENDS["loky"]


def _apply(function: Function, chunk: Chunk) -> pa.RecordBatch:
    """The worker maps the shard into memory itself, so no image is sent to it."""
    batch = _take(*chunk)
    if shards.STORED in batch.schema.names:
        stored, images = (batch.column(name) for name in (shards.STORED, "bytes"))
        shards.check_bytes(stored.to_pylist(), (image.as_py() for image in images))
    return _with_keys(batch, function(batch.select(INPUTS)))


def _with_keys(batch: pa.RecordBatch, results: pa.RecordBatch) -> pa.RecordBatch:
    return results.add_column(0, KEY, shards.key_column(batch))


def _split(chunk: Chunk) -> list[Chunk]:
    path, rows = chunk
    return [(path, row) for row in np.split(rows, len(rows))]


def _stand_in(schema: pa.Schema, isolation: Isolation, chunk: Chunk) -> _StandIn:
    batch = _take(*chunk)
    (key,) = batch.column("id").to_pylist()
    result = pa.RecordBatch.from_pylist([isolation.stand_in(key)], schema=schema)
    return _StandIn(_with_keys(batch, result))


def _name(chunk: Chunk) -> str:
    path, (row,) = chunk
    return f"the image {shards.read(path).column('name')[row].as_py()!r}"
