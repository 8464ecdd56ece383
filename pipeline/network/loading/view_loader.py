"""Processes that decode images ahead of their use, into page-locked memory."""

import weakref
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import torch
from joblib import cpu_count
from torch import Tensor

from pipeline.images.isolated_pool import MAX_WAITING, IsolatedFunction, IsolatedPool
from pipeline.network.loading import view_worker
from pipeline.network.loading.shared_buffer import SharedBuffer
from pipeline.network.loading.streams import Event, Streams
from pipeline.network.loading.view_worker import IndexedImages, Task

TASK = 16  # views per task of a process: small, so that a batch is soon complete
MAX_PROCESSES = 32


@dataclass
class _PendingBatch:
    """A batch whose views are being rendered."""

    slot: int
    size: int
    missing: int
    """Tasks without a result."""


class LoadedBatch:
    """Views in page-locked memory."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        """uint8 (B, 3, size, size), overwritten by a later batch once `used` has been reached."""
        self.used: Event | None = None
        """Set it before the next batch is loaded."""


class _Ring:
    """Page-locked memory for some batches, which take turns."""

    def __init__(self, shape: tuple[int, ...], streams: Streams) -> None:
        """`shape` is (slots, B, 3, size, size)."""
        self.buffer = SharedBuffer(shape)
        self.memory = torch.from_numpy(self.buffer.values)
        self._last: dict[int, LoadedBatch] = {}  # by slot
        streams.pin(self.memory)
        self.close = weakref.finalize(self, streams.unpin, self.memory)

    def loaded(self, slot: int, size: int) -> LoadedBatch:
        batch = self._last[slot] = LoadedBatch(self.memory[slot, :size])
        return batch

    def wait(self, slot: int) -> None:
        """Wait until the last batch of a slot is no longer needed."""
        if slot in self._last:
            used = self._last.pop(slot).used
            assert used is not None, "a batch would be overwritten before it was used"
            used.synchronize()

    def settle(self) -> None:
        """Wait for all batches that were used, and forget the others."""
        for batch in self._last.values():
            if batch.used is not None:
                batch.used.synchronize()
        self._last.clear()


class ViewLoader:
    """Worker processes, started by the first batch, that stay for later ones until `close`."""

    def __init__(
        self, size: int, batch: int, streams: Streams, processes: int | None = None
    ) -> None:
        """
        Args:
            size: Side of the views, in pixels.
            batch: Largest number of views in a batch.
            streams: Of the first device that batches are copied to.
        """
        self._processes = processes or usable_cores()
        ahead = (1 + MAX_WAITING) * self._processes + 1  # tasks in progress
        # One more is copied to a device, and one used, while the others are in progress.
        slots = -(-ahead // max(1, batch // TASK)) + 2
        self._shape = (slots, batch, 3, size, size)
        self._streams = streams
        self._pool = IsolatedPool(self._processes, view_worker.prepare)
        weakref.finalize(self, self._pool.close)
        self._idle: list[_Ring] = []

    def batches(
        self, images: IndexedImages, batches: Iterable[Sequence[int]]
    ) -> Generator[LoadedBatch]:
        """The views of each list of indices, in order. A few batches are decoded ahead.

        Several calls may be in progress, such as a validation within an epoch.

        Raises:
            PipelineError: an image is damaged or breaks its process, or something kills the
                processes again and again.
        """
        ring = self._idle.pop() if self._idle else _Ring(self._shape, self._streams)
        try:
            yield from self._load(images, batches, ring)
        finally:
            ring.settle()
            self._idle.append(ring)

    def _load(
        self, images: IndexedImages, batches: Iterable[Sequence[int]], ring: _Ring
    ) -> Iterator[LoadedBatch]:
        pending: deque[_PendingBatch] = deque()
        function = IsolatedFunction(
            partial(view_worker.render, images, ring.buffer),
            view_worker.MEMORY,
            view_worker.split,
            partial(view_worker.refuse, images),
            partial(view_worker.name, images),
        )
        tasks = self._tasks(batches, pending, ring)
        with closing(self._pool.map(function, tasks)) as finished:  # type: ignore[type-var]
            for results in finished:
                for _ in results:  # one, or one per image after a failure
                    pass
                pending[0].missing -= 1
                if not pending[0].missing:
                    batch = pending.popleft()
                    yield ring.loaded(batch.slot, batch.size)

    def _tasks(
        self, batches: Iterable[Sequence[int]], pending: deque[_PendingBatch], ring: _Ring
    ) -> Iterator[Task]:
        for number, indices in enumerate(batches):
            slot = number % self._shape[0]
            ring.wait(slot)
            starts = range(0, len(indices), TASK)
            pending.append(_PendingBatch(slot, len(indices), len(starts)))
            for start in starts:
                yield Task(slot, start, list(indices[start : start + TASK]))

    def start(self) -> None:
        """Start the processes without waiting for them."""
        self._pool.start()

    def close(self) -> None:
        """End the processes, and give the memory back."""
        self._pool.close()
        for ring in self._idle:
            ring.close()
        self._idle.clear()


def usable_cores() -> int:
    """Processes for this one: its share of the cores, if several train together."""
    together = 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        together = torch.distributed.get_world_size()
    return max(1, min(int(cpu_count()) // together, MAX_PROCESSES))
