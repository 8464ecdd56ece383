"""Overlap decoding with the forward pass."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, cycle, islice, tee

import torch
from torch import Tensor

from pipeline.network import device
from pipeline.network.loading.streams import Event, Streams, streams_of
from pipeline.network.loading.sub_batch import ON_CPU
from pipeline.network.loading.view_loader import LoadedBatch, ViewLoader
from pipeline.network.loading.view_worker import IndexedImages
from pipeline.network.views import Views

Tensors = tuple[Tensor, ...]
Forward = Callable[[Tensor], Tensors]

SUB_BATCH = ON_CPU
LOOKAHEAD = 512  # images computed before the first of them is yielded, on a CPU
DEPTH = 2  # batches that a device has to compute when the result of one is used
IndexBatches = Iterable[Sequence[int]]


def overlapped(
    views: Views,
    order: IndexBatches,
    forward: Forward,
    where: torch.device,
    window: int = LOOKAHEAD,
    sub_batch: int = ON_CPU,
) -> Iterator[Tensors]:
    """Yield `forward` of the views, uint8 (b, 3, size, size), for each list of indices in `order`.

    `forward` gets sub-batches of at most `sub_batch` views, across the lists; its results are
    regrouped as in `order`, which is read no further than needed.

    On a CPU each core decodes and computes sub-batches of its own, at most `window` images ahead,
    and pauses while the consumer works, which uses all cores too. For an accelerator see
    `DeviceForward`, whose processes here end with the last list.
    """
    if where.type == "cpu":
        yield from _on_cores(views, order, forward, window, sub_batch)
        return
    device_forward = DeviceForward([where], [forward], views.size, sub_batch)
    try:
        yield from device_forward(views, order)
    finally:
        device_forward.close()


def _on_cores(
    views: Views, order: IndexBatches, forward: Forward, window: int, sub_batch: int
) -> Iterator[Tensors]:
    sizes, batches = _sub_batches(order, sub_batch)

    def compute(batch: list[int]) -> Tensors:
        return forward(torch.stack([views[index] for index in batch]))

    def results() -> Iterator[Tensors]:
        cores = torch.get_num_threads()
        at_once = max(window // sub_batch, cores)
        with ThreadPoolExecutor(cores) as pool:
            while window_batches := list(islice(batches, at_once)):
                with device.one_thread_each():
                    values = list(pool.map(compute, window_batches))
                yield from values

    return _regroup(results(), sizes)


def _sub_batches(order: IndexBatches, size: int) -> tuple[Iterator[int], Iterator[list[int]]]:
    """The lengths of the lists of `order`, and their indices in lists of `size`.

    `order` is read once, no further than needed.
    """
    ours, theirs = tee(order)
    indices = chain.from_iterable(theirs)
    return map(len, ours), iter(lambda: list(islice(indices, size)), [])


def _regroup(results: Iterator[Tensors], sizes: Iterable[int]) -> Iterator[Tensors]:
    """The same rows in groups of these sizes."""
    left: list[Tensors] = []
    for size in sizes:
        while sum(len(values[0]) for values in left) < size:
            left.append(next(results))
        rows = left[0] if len(left) == 1 else tuple(map(_concatenate, zip(*left, strict=True)))
        yield tuple(values[:size] for values in rows)
        left = [tuple(values[size:] for values in rows)] if len(rows[0]) > size else []


def _concatenate(parts: tuple[Tensor, ...]) -> Tensor:
    """On the device of the first part."""
    return torch.cat([part.to(parts[0].device) for part in parts])


@dataclass(frozen=True)
class _Queued:
    """A batch that a device has been given."""

    values: Tensors
    ready: Event | None
    """None if the values stay on the device, whose later work waits for them."""

    def result(self) -> Tensors:
        if self.ready is not None:
            self.ready.synchronize()
        return self.values


class _Lane:
    """One of several devices, with the forward pass that it computes."""

    def __init__(self, forward: Forward, streams: Streams) -> None:
        self._forward, self.streams = forward, streams

    def queue(self, batch: LoadedBatch, to_host: torch.dtype | None) -> _Queued:
        """Have the device compute a batch, without waiting for it."""
        pixels, batch.used = self.streams.upload(batch.pixels)
        values = self._forward(pixels)
        if to_host is None:
            return _Queued(values, None)
        return _Queued(*self.streams.download(tuple(value.to(to_host) for value in values)))


class DeviceForward:
    """Processes that decode, and one or more devices that compute, until `close`.

    Batches go to the devices in turn. While a result is used, each device has `DEPTH` batches to
    compute, and the processes decode the next ones.
    """

    def __init__(
        self,
        devices: Sequence[torch.device],
        forwards: Sequence[Forward],
        size: int,
        sub_batch: int,
        processes: int | None = None,
    ) -> None:
        """
        Args:
            forwards: Of each device: uint8 (b, 3, size, size) there -> tensors (b, ...).
            size: Side of the views, in pixels.
            sub_batch: Images per forward pass.
        """
        self._lanes = [
            _Lane(forward, streams_of(where))
            for where, forward in zip(devices, forwards, strict=True)
        ]
        self._sub_batch = sub_batch
        self._loader = ViewLoader(size, sub_batch, self._lanes[0].streams, processes)

    def start(self) -> None:
        """Start the processes without waiting for them."""
        self._loader.start()

    def __call__(
        self, views: IndexedImages, order: IndexBatches, to_host: torch.dtype | None = None
    ) -> Iterator[Tensors]:
        """Like `overlapped`.

        Args:
            to_host: Copy the values to the host's memory, in this type, beside the next batch.
                Without it they stay on their device: that of a list's first sub-batch.

        Raises:
            PipelineError: an image is damaged, or the processes cannot work here.
        """
        sizes, batches = _sub_batches(order, self._sub_batch)
        loaded = self._loader.batches(views, batches)
        return _regroup(self._queued(loaded, to_host), sizes)

    def _queued(
        self, loaded: Generator[LoadedBatch], to_host: torch.dtype | None
    ) -> Iterator[Tensors]:
        queued: deque[_Queued] = deque()
        lanes = cycle(self._lanes)
        with closing(loaded) as batches:
            for batch in batches:
                queued.append(next(lanes).queue(batch, to_host))
                if len(queued) > DEPTH * len(self._lanes):
                    yield queued.popleft().result()
        while queued:
            yield queued.popleft().result()

    def close(self) -> None:
        """End the processes, and give the memory back."""
        self._loader.close()
