"""Decoding as the filter does it, in processes that may die of what they are given."""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from threading import Thread
from types import TracebackType
from typing import Any, Self

from loky import ProcessPoolExecutor

from pipeline.images import decoding, sandbox
from pipeline.images.decoding import Pixels
from pipeline.images.header import RejectReason, Unreadable
from pipeline.network.malloc import keep_freed_memory

Decoded = list[Pixels | RejectReason]
PAD = 16 * 2**20  # bytes; what an image may take is limited too
TICK = 1  # second, between two looks after the parent
AHEAD = 2  # chunks that wait for each process, beside the one that it works on


class Decoders:
    """Processes that turn untrusted bytes into pixels, and are replaced when one dies of them.

    They are started by the first images, unless `start` was called; nothing but what decodes is
    imported there.
    """

    def __init__(self, processes: int | None = None) -> None:
        self._processes = processes or os.cpu_count() or 1
        self._pool: Any = None
        self._function: Any = decode_all
        self._starting: list[Future[Decoded]] = []
        self._limits = (1.0, 1)  # nothing is decoded yet

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
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(kill_workers=True)
            self._pool = None

    def start(self) -> None:
        """Let the processes import what they need, while this one is busy otherwise."""
        self._starting = [self._submit([]) for _ in range(self._processes)]

    def wait(self) -> None:
        """Until they have."""
        for each in self._starting:
            each.result()

    def decode(
        self, chunks: Iterable[Sequence[bytes]], max_megapixels: float, side: int
    ) -> Iterator[Decoded]:
        """For each chunk, the pixels of its images or the reason why there are none, in order.

        A few chunks are taken ahead. `max_megapixels` and `side` are as `images.load` has them.
        """
        self._limits = (max_megapixels, side)
        waiting: deque[tuple[Sequence[bytes], Future[Decoded]]] = deque()
        for chunk in chunks:
            waiting.append((chunk, self._submit(chunk)))
            if len(waiting) > (1 + AHEAD) * self._processes:
                yield self._next(waiting)
        while waiting:
            yield self._next(waiting)

    def _submit(self, chunk: Sequence[bytes]) -> "Future[Decoded]":
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._processes, initializer=begin, initargs=(os.getpid(),)
            )
        try:
            found: Future[Decoded] = self._pool.submit(
                self._function, chunk, *self._limits, os.getpid()
            )
        except BrokenProcessPool as error:  # told when the chunk's turn comes
            found = Future()
            found.set_exception(error)
        return found

    def _next(self, waiting: "deque[tuple[Sequence[bytes], Future[Decoded]]]") -> Decoded:
        chunk, future = waiting.popleft()
        try:
            return future.result()
        except (BrokenProcessPool, MemoryError):
            self.close()
            found = [self._alone(data) for data in chunk]
            again = [(each, self._submit(each)) for each, _ in waiting]
            waiting.clear()
            waiting.extend(again)
            return found

    def _alone(self, data: bytes) -> Pixels | RejectReason:
        """One image, which is to blame if a process dies of it twice: once may be bad luck."""
        for _ in range(2):
            try:
                (found,) = self._submit([data]).result()
            except (BrokenProcessPool, MemoryError):
                self.close()
            else:
                return found
        return RejectReason.BREAKS_DECODER


def begin(home: int) -> None:
    """What each of the processes does first."""
    keep_freed_memory(PAD)
    Thread(target=_end_with, args=(home,), daemon=True).start()


def _end_with(home: int) -> None:
    """A process whose parent was killed is told by nobody."""
    while os.getppid() == home:
        time.sleep(TICK)
    os._exit(1)


def decode_all(data: Sequence[bytes], max_megapixels: float, side: int, home: int) -> Decoded:
    """What one of the processes does; `home` is the process that it belongs to."""
    with sandbox.confined(home, sandbox.memory_for(max_megapixels)):
        return [_decode(each, max_megapixels, side) for each in data]


def _decode(data: bytes, max_megapixels: float, side: int) -> Pixels | RejectReason:
    with sandbox.deadline(sandbox.SECONDS):
        try:
            return decoding.load(data, max_megapixels, side)[1]
        except Unreadable as error:
            return error.reason
