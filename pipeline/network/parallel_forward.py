"""Overlap decoding with the forward pass."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.network import device
from pipeline.network.views import Views

Tensors = tuple[Tensor, ...]
Forward = Callable[[Tensor], Tensors]

SUB_BATCH = 16  # images per call of the function, on a CPU
LOOKAHEAD = 512  # images computed before the first of them is yielded
MAX_WORKERS = 8


def overlapped(
    views: Views,
    order: Sequence[Sequence[int]],
    forward: Forward,
    where: torch.device,
    window: int = LOOKAHEAD,
    sub_batch: int = SUB_BATCH,
) -> Iterator[Tensors]:
    """Yield `forward` of the views, uint8 (b, 3, size, size), for each list of indices in `order`.

    `forward` gets at most `sub_batch` views at a time, across the lists; its results are regrouped
    as in `order`.

    On a CPU each core decodes and computes sub-batches of its own, at most `window` images ahead,
    and pauses while the consumer works, which uses all cores too. For an accelerator, processes
    decode ahead into pinned memory.
    """
    indices = [index for group in order for index in group]
    batches = [indices[start : start + sub_batch] for start in range(0, len(indices), sub_batch)]
    if where.type == "cpu":
        results = _on_cores(views, batches, forward, max(1, window // sub_batch))
    else:
        results = _on_accelerator(views, batches, forward)
    return _regroup(results, [len(group) for group in order])


def _regroup(results: Iterator[Tensors], sizes: Sequence[int]) -> Iterator[Tensors]:
    """The same rows in groups of these sizes."""
    left: list[Tensors] = []
    for size in sizes:
        while sum(len(values[0]) for values in left) < size:
            left.append(next(results))
        joined = left[0] if len(left) == 1 else tuple(map(torch.cat, zip(*left, strict=True)))
        yield tuple(values[:size] for values in joined)
        left = [tuple(values[size:] for values in joined)] if len(joined[0]) > size else []


def _on_cores(
    views: Views, batches: Sequence[list[int]], forward: Forward, ahead: int
) -> Iterator[Tensors]:
    def compute(batch: list[int]) -> Tensors:
        return forward(torch.stack([views[index] for index in batch]))

    cores = torch.get_num_threads()
    at_once = max(ahead, cores)
    with ThreadPoolExecutor(cores) as pool:
        for start in range(0, len(batches), at_once):
            with device.one_thread_each():
                results = list(pool.map(compute, batches[start : start + at_once]))
            yield from results


def _on_accelerator(
    views: Views, batches: Sequence[list[int]], forward: Forward
) -> Iterator[Tensors]:
    loader: DataLoader[Tensor] = DataLoader(
        views,
        batch_sampler=batches,
        num_workers=min(os.cpu_count() or 1, MAX_WORKERS),
        pin_memory=True,
        prefetch_factor=4,
        generator=torch.Generator(),  # without it, it draws from the global one, as dropout does
    )
    return map(forward, loader)
