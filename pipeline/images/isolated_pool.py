"""Run a function over chunks of untrusted images in worker processes that may die.

A chunk whose worker dies is run again image by image, in a process of its own. An image that breaks
it there gets a stand-in as its result; all others keep their results. Results come in order.

A process that something else ended says nothing about its image: it is tried again, and if that
happens many times in a row, the machine is to blame, which is a `PipelineError`.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from queue import LifoQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from pipeline.core.errors import PipelineError
from pipeline.images import sandbox
from pipeline.images.worker import Cause, Worker, WorkerFailure

MAX_WAITING = 2  # chunks per worker, besides the chunk in progress
# Seconds before an image is tried again that something else interrupted, for memory to become free.
PAUSES = (0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 5)

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")
ParallelMap = Callable[
    [Callable[[Chunk], Result], Iterable[Chunk]], Iterator[Result | WorkerFailure]
]
"""Runs a function over chunks and yields, in order, the results; or why there is none."""


@dataclass(frozen=True)
class IsolatedFunction(Generic[Chunk, Result]):
    """A function over a chunk of images, and what to do with an image that breaks its worker."""

    function: Callable[[Chunk], Result]
    """Picklable."""
    memory: int
    """Bytes that a worker may allocate for a chunk."""
    split: Callable[[Chunk], list[Chunk]]
    """Divides a chunk into chunks of one image."""
    stand_in: Callable[[Chunk], Result]
    """The result of a chunk of one image that breaks its worker."""
    name: Callable[[Chunk], str]
    """What to call the image of a chunk of one, in an error message."""

    def confined(self) -> Callable[[Chunk], Result]:
        """The function as workers of this process run it."""
        return partial(_call_confined, self.function, self.memory, os.getpid())


class IsolatedPool:
    """Worker processes, started when they are needed and replaced when they die."""

    def __init__(
        self, processes: int | None = None, prepare: Callable[[], None] | None = None
    ) -> None:
        """Each worker calls `prepare` first; its module is imported there."""
        self._processes = processes or os.cpu_count() or 1
        self._prepare = prepare
        self._threads: ThreadPoolExecutor | None = None  # one waits for each worker
        self._workers: list[Worker] = []
        self._idle: LifoQueue[Worker] = LifoQueue()
        self._starting: list[Future[WorkerFailure | None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the workers. Another chunk starts new ones."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            for worker in self._workers:
                worker.close()
            self._threads.shutdown()
            self._threads = None

    def start(self) -> None:
        """Start the workers without waiting for them."""
        self._starting = [self._submit(_no_work, None) for _ in range(self._processes)]

    def wait(self) -> None:
        """Wait until the workers have started."""
        for future in self._starting:
            future.result()

    def run(
        self, function: Callable[[Chunk], Result], chunks: Iterable[Chunk]
    ) -> Iterator[Result | WorkerFailure]:
        """Like `ParallelMap`. A few chunks are taken ahead."""
        futures: deque[Future[Result | WorkerFailure]] = deque()
        try:
            for chunk in chunks:
                futures.append(self._submit(function, chunk))
                if len(futures) > (1 + MAX_WAITING) * self._processes:
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
        finally:
            if futures:  # the caller stopped, or a chunk raised: the others are not needed
                self.close()

    def map(
        self, function: IsolatedFunction[Chunk, Result], chunks: Iterable[Chunk]
    ) -> Iterator[Iterator[Result]]:
        """Like `isolated_map`, in these workers."""
        return isolated_map(function, chunks, self.run, self._prepare)

    def _submit(
        self, function: Callable[[Chunk], Result], chunk: Chunk
    ) -> Future[Result | WorkerFailure]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._processes)
            self._workers = [Worker(self._prepare) for _ in range(self._processes)]
            self._idle = LifoQueue()
            for worker in self._workers:
                self._idle.put(worker)
        return self._threads.submit(_call_idle, self._idle, function, chunk)


def _call_idle(
    idle: "LifoQueue[Worker]", function: Callable[[Chunk], Result], chunk: Chunk
) -> Result | WorkerFailure:
    worker = idle.get()
    try:
        result: Result = worker.call(function, chunk)
        return result
    except WorkerFailure as failure:
        return failure
    finally:
        idle.put(worker)


def shared_pool(processes: int) -> IsolatedPool:
    """A pool that all maps of this process use one after another: workers start once."""
    return _pool_of(os.getpid(), processes)  # a forked process has none of its parent's threads


@cache
def _pool_of(_process: int, processes: int) -> IsolatedPool:
    return IsolatedPool(processes)


def isolated_map(
    function: IsolatedFunction[Chunk, Result],
    chunks: Iterable[Chunk],
    run: ParallelMap[Chunk, Result],
    prepare: Callable[[], None] | None = None,
) -> Iterator[Iterator[Result]]:
    """Yield the results of each chunk, in order: one, or one per image if the chunk failed.

    Results of a failed chunk come one by one: use them before the next chunk.

    Raises:
        PipelineError: workers cannot start here, or something kills them again and again.
    """
    unfinished: deque[Chunk] = deque()  # given to `run`, without a result yet
    for result in run(function.confined(), _recorded(unfinished, chunks)):
        chunk = unfinished.popleft()
        if isinstance(result, WorkerFailure):
            yield _one_by_one(function, chunk, prepare)
        else:
            yield iter([result])


def _recorded(unfinished: deque[Chunk], chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        unfinished.append(chunk)
        yield chunk


def _one_by_one(
    function: IsolatedFunction[Chunk, Result], chunk: Chunk, prepare: Callable[[], None] | None
) -> Iterator[Result]:
    confined = function.confined()
    with Worker(prepare) as worker:
        for image in function.split(chunk):
            yield _alone(worker, confined, function, image)


def _alone(
    worker: Worker,
    confined: Callable[[Chunk], Result],
    function: IsolatedFunction[Chunk, Result],
    image: Chunk,
) -> Result:
    """The result of an image in a worker that has nothing else to do."""
    pauses = iter(PAUSES)
    while True:
        was_fresh = worker.is_fresh
        try:
            result: Result = worker.call(confined, image)
            return result
        except WorkerFailure as failure:
            if failure.cause is Cause.LIMIT or (failure.cause is Cause.CRASH and was_fresh):
                return function.stand_in(image)
            if failure.cause is Cause.MACHINE:
                _pause(pauses, failure, function.name(image))


def _pause(pauses: Iterator[float], failure: WorkerFailure, name: str) -> None:
    """Wait before the next try; raise PipelineError if there were enough."""
    pause = next(pauses, None)
    if pause is None:
        raise PipelineError(
            f"a worker process failed {len(PAUSES) + 1} times while it decoded {name}, and not by "
            f"the image's fault: {failure.why}. Is the machine short of memory, or something "
            "killing processes? Finished work is kept: run it again when that is over"
        ) from failure
    time.sleep(pause)


# ---- in the worker ----


def _no_work(_: Any) -> None:
    return


def _call_confined(
    function: Callable[[Chunk], Result], memory: int, home: int, chunk: Chunk
) -> Result:
    with sandbox.confined(home, memory):
        return function(chunk)
