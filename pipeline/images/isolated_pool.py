"""Run a function over chunks of untrusted images in worker processes that may die.

When a worker dies, all chunks in progress fail, and nothing reports which image was the cause. So
the first of these chunks is retried image by image, in a process of its own. An image that fails
there gets a stand-in as its result; all others keep their results. Results come in order.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from threading import Thread
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from loky import ProcessPoolExecutor

from pipeline.images import sandbox

MAX_WAITING = 2  # chunks per worker, besides the chunk in progress
MAX_TRIES = 2  # of one image alone: the system may have killed the worker for another reason
PARENT_CHECK_SECONDS = 1
# Images are the unit of parallelism.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")
Run = Callable[[Callable[[Chunk], Result], Iterable[Chunk]], Iterator[Result]]
"""Runs a function over chunks and yields the results in order. It raises `WorkerFailure` if a
worker failed; the next chunk in order need not be the cause."""


class WorkerFailure(Exception):
    """A worker died or had too little memory.

    Of its own type, because the iterator of chunks may raise a MemoryError in this process.
    """


@contextmanager
def worker_failures() -> Iterator[None]:
    """Turn what a failed worker raises into `WorkerFailure`."""
    try:
        yield
    except (BrokenProcessPool, MemoryError) as error:
        raise WorkerFailure(str(error)) from error


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

    def confined(self) -> Callable[[Chunk], Result]:
        """The function as workers of this process run it."""
        return partial(_call_confined, self.function, self.memory, os.getpid())


class IsolatedPool:
    """Worker processes, started with the first chunk and replaced when one dies.

    They end when their parent does, even if it is killed.
    """

    def __init__(
        self, processes: int | None = None, prepare: Callable[[], None] | None = None
    ) -> None:
        """Each worker calls `prepare` first; its module is imported there."""
        self._processes = processes or os.cpu_count() or 1
        self._prepare = prepare
        self._executor: Any = None
        self._starting: list[Future[None]] = []

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
        if self._executor is not None:
            self._executor.shutdown(kill_workers=True)
            self._executor = None

    def start(self) -> None:
        """Start the workers without waiting for them."""
        self._starting = [self._submit(_no_work, None) for _ in range(self._processes)]

    def wait(self) -> None:
        """Wait until the workers have started."""
        for future in self._starting:
            future.result()

    def run(self, function: Callable[[Chunk], Result], chunks: Iterable[Chunk]) -> Iterator[Result]:
        """Yield the result of each chunk, in order. A few chunks are taken ahead.

        Raises:
            WorkerFailure: as `Run`.
        """
        futures: deque[Future[Result]] = deque()
        try:
            for chunk in chunks:
                futures.append(self._submit(function, chunk))
                if len(futures) > (1 + MAX_WAITING) * self._processes:
                    yield _result(futures.popleft())
            while futures:
                yield _result(futures.popleft())
        except WorkerFailure:
            self.close()
            raise
        finally:
            if futures:  # the caller stopped, or a chunk raised: the others are not needed
                self.close()

    def map(
        self, function: IsolatedFunction[Chunk, Result], chunks: Iterable[Chunk]
    ) -> Iterator[Iterator[Result]]:
        """As `isolated_map`, in these workers."""
        return isolated_map(function, chunks, self.run)

    def _submit(self, function: Callable[[Chunk], Result], chunk: Chunk) -> Future[Result]:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self._processes,
                initializer=_begin,
                initargs=(os.getpid(), self._prepare),
                env=ONE_THREAD,
            )
        try:
            future: Future[Result] = self._executor.submit(function, chunk)
        except BrokenProcessPool as error:  # chunks before this one may have results
            future = Future()
            future.set_exception(error)
        return future


def _result(future: Future[Result]) -> Result:
    with worker_failures():
        return future.result()


@cache
def shared_pool(processes: int) -> IsolatedPool:
    """A pool that all maps of this process use one after another: workers start once."""
    return IsolatedPool(processes)


def isolated_map(
    function: IsolatedFunction[Chunk, Result],
    chunks: Iterable[Chunk],
    run: Run[Chunk, Result],
) -> Iterator[Iterator[Result]]:
    """Yield the results of each chunk, in order: one, or one per image if the chunk failed.

    Results of a failed chunk come one by one: use them before the next chunk.
    """
    chunks = iter(chunks)
    unfinished: deque[Chunk] = deque()  # given to `run`, without a result yet
    while True:
        try:
            for result in run(function.confined(), _recorded(unfinished, chunks)):
                unfinished.popleft()
                yield iter([result])
            return
        except WorkerFailure:
            chunk = unfinished.popleft()
        yield _one_by_one(function, chunk)


def _recorded(unfinished: deque[Chunk], chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The unfinished chunks again, then the others, which become unfinished."""
    yield from list(unfinished)
    for chunk in chunks:
        unfinished.append(chunk)
        yield chunk


def _one_by_one(function: IsolatedFunction[Chunk, Result], chunk: Chunk) -> Iterator[Result]:
    with IsolatedPool(1) as pool:
        for image in function.split(chunk):
            yield _alone(pool, function, image)


def _alone(pool: IsolatedPool, function: IsolatedFunction[Chunk, Result], image: Chunk) -> Result:
    for _ in range(MAX_TRIES):
        try:
            return next(pool.run(function.confined(), [image]))
        except WorkerFailure:
            continue
    return function.stand_in(image)


# ---- in the worker ----


def _begin(parent: int, prepare: Callable[[], None] | None) -> None:
    Thread(target=_exit_with, args=(parent,), daemon=True).start()
    if prepare is not None:
        prepare()


def _exit_with(parent: int) -> None:
    """No signal reports that the parent was killed, so check."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)


def _no_work(_: None) -> None:
    return


def _call_confined(
    function: Callable[[Chunk], Result], memory: int, home: int, chunk: Chunk
) -> Result:
    with sandbox.confined(home, memory):
        return function(chunk)
