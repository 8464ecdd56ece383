"""Views of images through a function, so that neither the decoding nor the function waits."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.network import device
from pipeline.network.views import Views

Tensors = tuple[Tensor, ...]
Work = Callable[[Tensor], Tensors]

SUB_BATCH = 16  # images that are computed at a time
LOOKAHEAD = 512  # images that are computed before the first of them is handed out
MAX_WORKERS = 8


def overlapped(
    views: Views,
    order: Sequence[Sequence[int]],
    work: Work,
    where: torch.device,
    window: int = LOOKAHEAD,
) -> Iterator[Tensors]:
    """Yield `work` of the views, uint8 (b, 3, size, size), for each list of indices in `order`.

    `work` is given parts of at most `PART`, whichever lists they are of; what it gives is put
    together as `order` has it.

    On a CPU every core decodes and computes parts of its own. That is done ahead, for at most
    `window` images, and never beside whoever consumes them, who wants all cores too. For an
    accelerator, processes decode ahead into pinned memory while it computes.
    """
    flat = [index for indices in order for index in indices]
    parts = [flat[start : start + SUB_BATCH] for start in range(0, len(flat), SUB_BATCH)]
    if where.type == "cpu":
        results = _on_cores(views, parts, work, window)
    else:
        results = _on_accelerator(views, parts, work)
    return _regroup(results, [len(indices) for indices in order])


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
    views: Views, parts: Sequence[list[int]], work: Work, window: int
) -> Iterator[Tensors]:
    def one(part: list[int]) -> Tensors:
        return work(torch.stack([views[index] for index in part]))

    cores = torch.get_num_threads()
    at_once = max(window // SUB_BATCH, cores)
    with ThreadPoolExecutor(cores) as pool:
        for start in range(0, len(parts), at_once):
            with device.one_thread_each():
                found = list(pool.map(one, parts[start : start + at_once]))
            yield from found


def _on_accelerator(views: Views, parts: Sequence[list[int]], work: Work) -> Iterator[Tensors]:
    loader: DataLoader[Tensor] = DataLoader(
        views,
        batch_sampler=parts,
        num_workers=min(os.cpu_count() or 1, MAX_WORKERS),
        pin_memory=True,
        prefetch_factor=4,
        generator=torch.Generator(),  # or it would draw from the global one, and dropout differ
    )
    return map(work, loader)
