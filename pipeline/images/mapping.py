"""The one place that runs a function over images: shard by shard, in parallel, remembered."""

import os
import time
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
from joblib import Parallel, delayed, effective_n_jobs

from pipeline.core import shards
from pipeline.core.progress import bar
from pipeline.images.memo import Memo, ResultStore
from pipeline.images.sandbox import Isolation, confined

CHUNK = 256  # images a worker takes at a time, and the most that a kill makes it forget
FIRST = 16  # images that are taken together before it is known how long they take
SECONDS = 4  # that images taken together in one process should take

Function = Callable[[pa.RecordBatch], pa.RecordBatch]


@dataclass(frozen=True)
class _Task:
    """One shard: the rows that are wanted, and those among them that the memo lacks."""

    path: Path
    rows: list[int]
    chunks: list[list[int]]


def map_images(
    function: Function,
    directory: Path,
    *,
    schema: pa.Schema,
    memo: Memo,
    title: str,
    only: Container[str] | None = None,
    jobs: int = -1,
    isolation: Isolation | None = None,
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Yield the rows of `directory`, some at a time and in order, with `function`'s results.

    Args:
        function: Pure per image: takes rows of a shard (any number of them), returns as many
            rows of `schema`, whose first column is `id`. With several jobs it must be picklable.
        only: The ids to compute; the rows of others are left out of what is yielded.
        jobs: Parallel workers as joblib counts them; -1 means all cores. The backend can be
            replaced from outside by `joblib.parallel_config`.
        isolation: What to do when an image kills its worker. Without it, the run fails.
    """
    tasks = _plan(directory, only, memo, CHUNK)
    todo = _todo(tasks)
    results = (
        _in_parallel(function, todo, jobs)
        if isolation is None
        else (_isolated(function, todo, jobs, schema, isolation))
    )
    for task in _remembered(tasks, results, memo, title):
        for rows in _chunks(task.rows, CHUNK):
            batch = _take(task.path, rows)
            yield batch, memo.get(batch.column("id").to_pylist(), schema)


def remember(
    function: Function,
    directory: Path,
    memo: ResultStore,
    *,
    title: str,
    only: Container[str],
    most: int,
) -> None:
    """Compute, in this process, what `memo` lacks of the ids in `only`; at most `most` images at a
    time, and fewer where they take long: a kill forgets but seconds.

    Nothing but the images that are computed is read.
    """
    tasks = _plan(directory, only, memo, most)
    size = min(FIRST, most)
    with bar(title, total=sum(len(chunk) for _, chunk in _todo(tasks))) as shown:
        for path, chunk in _todo(tasks):
            while chunk:
                rows, chunk = chunk[:size], chunk[size:]  # noqa: PLW2901
                start = time.monotonic()
                memo.add(function(_take(path, rows)))
                shown.update(len(rows))
                size = _resized(size, time.monotonic() - start, most)


def _resized(size: int, seconds: float, most: int) -> int:
    """As many images as take about `SECONDS`, going by `size` of them."""
    return max(1, min(most, int(size * SECONDS / max(seconds, 1e-3))))


def _todo(tasks: Sequence[_Task]) -> list["Chunk"]:
    return [(task.path, chunk) for task in tasks for chunk in task.chunks]


def _remembered(
    tasks: Sequence[_Task], results: Iterator[pa.RecordBatch], memo: ResultStore, title: str
) -> Iterator[_Task]:
    """Each shard once its results are in the memo."""
    with bar(title, total=sum(len(chunk) for _, chunk in _todo(tasks))) as shown:
        for task in tasks:
            missing = sum(map(len, task.chunks))
            while missing:
                result = next(results)
                memo.add(result)
                missing -= result.num_rows
                shown.update(result.num_rows)
            yield task


def _plan(
    directory: Path, only: Container[str] | None, memo: ResultStore, chunk: int
) -> list[_Task]:
    tasks = []
    planned: set[str] = set()
    # Absolute: a worker may have been started for another map, in another working directory.
    for path in shards.paths(directory.absolute()):
        ids = shards.read(path).column("id").to_pylist()
        rows = [row for row, key in enumerate(ids) if only is None or key in only]
        missing = []
        for row in rows:
            if ids[row] not in memo and ids[row] not in planned:
                planned.add(ids[row])
                missing.append(row)
        tasks.append(_Task(path, rows, _chunks(missing, chunk)))
    return tasks


def _chunks(rows: list[int], size: int) -> list[list[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _take(path: Path, rows: list[int]) -> pa.RecordBatch:
    batch = shards.read(path)
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return batch.slice(rows[0], len(rows))  # without a copy
    return batch.take(shards.array(np.array(rows)))


Chunk = tuple[Path, list[int]]  # a shard and rows of it


def _in_parallel(
    function: Function, todo: Sequence[Chunk], jobs: int, memory: int | None = None
) -> Iterator[pa.RecordBatch]:
    """The result of each chunk, in order.

    Raises:
        BrokenProcessPool: a worker died. The chunk whose turn it is may not be to blame.
    """
    if memory is not None:
        jobs = max(2, effective_n_jobs(jobs))  # with one, joblib would work in this process
    elif len(todo) <= 1:
        jobs = 1  # a worker's start would cost more than it saves
    results: Iterator[pa.RecordBatch] = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(_apply)(function, *chunk, memory, os.getpid()) for chunk in todo
    )
    return results


def _isolated(
    function: Function, todo: Sequence[Chunk], jobs: int, schema: pa.Schema, isolation: Isolation
) -> Iterator[pa.RecordBatch]:
    """The results of the chunks, in order, whatever becomes of the workers."""
    done = 0
    while done < len(todo):
        try:
            for result in _in_parallel(function, todo[done:], jobs, isolation.memory):
                yield result
                done += 1
        except (BrokenProcessPool, MemoryError):
            # If another chunk was to blame, it is next in turn soon, and breaks the pool again.
            path, rows = todo[done]
            yield from _one_by_one(function, path, rows, schema, isolation)
            done += 1


def _one_by_one(
    function: Function, path: Path, rows: Sequence[int], schema: pa.Schema, isolation: Isolation
) -> Iterator[pa.RecordBatch]:
    """The results of a chunk that may have killed a worker; who kills another is known by it."""
    left = list(rows)
    while left:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                while left:
                    task = (function, path, left[:1], isolation.memory, os.getpid())
                    yield pool.submit(_apply, *task).result()
                    del left[0]
            except (BrokenProcessPool, MemoryError):
                key = shards.read(path).column("id")[left.pop(0)].as_py()
                yield pa.RecordBatch.from_pylist([isolation.stand_in(key)], schema=schema)


def _apply(
    function: Function, path: Path, rows: list[int], memory: int | None, home: int
) -> pa.RecordBatch:
    """What a worker does: it maps the shard itself, so no image crosses a process on its way in."""
    if memory is None:
        return function(_take(path, rows))
    with confined(home, memory):
        return function(_take(path, rows))
