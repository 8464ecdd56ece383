"""The one place that runs a function over images: shard by shard, in parallel, remembered."""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from joblib import Parallel, delayed

from pipeline import shards
from pipeline.memo import Memo
from pipeline.progress import bar

CHUNK = 256  # images a worker takes at a time, and the most that a kill makes it forget

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
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Yield each shard of `directory` with `function`'s results for its rows, in order.

    Args:
        function: Pure per image: takes rows of a shard (any number of them), returns as many
            rows of `schema`, whose first column is `id`. With several jobs it must be picklable.
        only: The ids to compute; the rows of others are left out of what is yielded.
        jobs: Parallel workers as joblib counts them; -1 means all cores. The backend can be
            replaced from outside by `joblib.parallel_config`.
    """
    tasks = _plan(directory, only, memo)
    todo = [(task.path, chunk) for task in tasks for chunk in task.chunks]
    # One chunk is computed here: starting a worker would cost more than it saves.
    results = Parallel(n_jobs=1 if len(todo) <= 1 else jobs, return_as="generator")(
        delayed(_apply)(function, path, chunk) for path, chunk in todo
    )
    with bar(title, total=sum(len(chunk) for _, chunk in todo)) as shown:
        for task in tasks:
            for chunk in task.chunks:
                memo.add(next(results))
                shown.update(len(chunk))
            if task.rows:
                batch = _take(task.path, task.rows)
                yield batch, memo.get(batch.column("id").to_pylist(), schema)


def _plan(directory: Path, only: Container[str] | None, memo: Memo) -> list[_Task]:
    tasks = []
    planned: set[str] = set()
    for path in shards.paths(directory):
        ids = shards.read(path).column("id").to_pylist()
        rows = [row for row, key in enumerate(ids) if only is None or key in only]
        missing = []
        for row in rows:
            if ids[row] not in memo and ids[row] not in planned:
                planned.add(ids[row])
                missing.append(row)
        chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
        tasks.append(_Task(path, rows, chunks))
    return tasks


def _take(path: Path, rows: list[int]) -> pa.RecordBatch:
    return shards.read(path).take(pa.array(rows, pa.int64()))


def _apply(function: Function, path: Path, rows: list[int]) -> pa.RecordBatch:
    """What a worker does: it maps the shard itself, so no image crosses a process on its way in."""
    return function(_take(path, rows))
