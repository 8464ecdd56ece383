"""Run a function over chunks of the images of shards, in parallel.

joblib's backend runs them, or where an image may break its worker, processes of our own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from pipeline.images.isolated_pool import IsolatedFunction, isolated_map, shared_pool
from pipeline.images.memo import KEY
from pipeline.images.worker import Cause, WorkerFailure

INPUTS = ["id", "bytes"]  # the columns that a function gets

# From the INPUTS of rows to as many results.
Function = Callable[[pa.RecordBatch], pa.RecordBatch]
Rows = npt.NDArray[np.int32]  # ascending rows of a shard
Chunk = tuple[Path, Rows]


@dataclass(frozen=True)
class Isolation:
    """What a map does with images that break their worker."""

    stand_in: Callable[[str], Mapping[str, Any]]
    """The result for an image that does, by its id. It is not remembered: how long an image takes,
    and whether it crashes, may depend on the machine."""
    memory: int
    """Bytes that a worker may allocate for a chunk."""


@dataclass(frozen=True)
class StandIn:
    """The result of an image that breaks its worker."""

    batch: pa.RecordBatch


def take(path: Path, rows: Rows) -> pa.RecordBatch:
    """These rows of a shard."""
    batch = shards.read(path)
    if rows[-1] - rows[0] + 1 == len(rows):
        return batch.slice(rows[0], len(rows))  # without a copy
    return batch.take(shards.array(rows))


def with_keys(batch: pa.RecordBatch, results: pa.RecordBatch) -> pa.RecordBatch:
    """The results for the rows of a shard, beside their keys in a memo."""
    return results.add_column(0, KEY, shards.key_column(batch))


def run_chunks(function: Function, chunks: Iterable[Chunk], jobs: int) -> Iterator[pa.RecordBatch]:
    """Yield the results of each chunk, in order, with their keys; joblib's backend runs them.

    Raises:
        BrokenProcessPool: a worker died. The next chunk in order need not be the cause.
    """
    return _parallel(partial(_apply, function), chunks, jobs)


def run_isolated(
    function: Function, chunks: Sequence[Chunk], jobs: int, schema: pa.Schema, isolation: Isolation
) -> Iterator[pa.RecordBatch | StandIn]:
    """Like `run_chunks`, with results one by one for the images of a chunk that failed."""
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


def _parallel(
    function: Callable[[Chunk], pa.RecordBatch], chunks: Iterable[Chunk], jobs: int
) -> Iterator[pa.RecordBatch]:
    results: Iterator[pa.RecordBatch] = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(function)(chunk) for chunk in list(chunks)
    )
    return results


def _parallel_run(
    function: Callable[[Chunk], pa.RecordBatch], chunks: Iterable[Chunk], jobs: int
) -> Iterator[pa.RecordBatch | WorkerFailure]:
    """As `_parallel`, as an `isolated_pool.ParallelMap`."""
    rest = list(chunks)
    while rest:
        try:
            for result in _parallel(function, rest, jobs):
                del rest[0]
                yield result
        except (BrokenProcessPool, MemoryError) as error:
            del rest[0]
            yield WorkerFailure(Cause.MACHINE, str(error))


def _apply(function: Function, chunk: Chunk) -> pa.RecordBatch:
    """The worker maps the shard into memory itself, so no image is sent to it."""
    batch = take(*chunk)
    if shards.STORED in batch.schema.names:
        stored, images = (batch.column(name) for name in (shards.STORED, "bytes"))
        shards.check_bytes(stored.to_pylist(), (image.as_py() for image in images))
    return with_keys(batch, function(batch.select(INPUTS)))


def _split(chunk: Chunk) -> list[Chunk]:
    path, rows = chunk
    return [(path, row) for row in np.split(rows, len(rows))]


def _stand_in(schema: pa.Schema, isolation: Isolation, chunk: Chunk) -> StandIn:
    batch = take(*chunk)
    (key,) = batch.column("id").to_pylist()
    result = pa.RecordBatch.from_pylist([isolation.stand_in(key)], schema=schema)
    return StandIn(with_keys(batch, result))


def _name(chunk: Chunk) -> str:
    path, (row,) = chunk
    return f"the image {shards.read(path).column('name')[row].as_py()!r}"
