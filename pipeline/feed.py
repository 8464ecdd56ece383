"""Views of images through a function, so that neither the decoding nor the function waits."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline import device
from pipeline.views import Views

Tensors = tuple[Tensor, ...]
Work = Callable[[Tensor], Tensors]

PART = 16  # images that are computed at a time
WINDOW = 512  # images that are computed before the first of them is handed out
MOST_WORKERS = 8


def run(
    views: Views, order: Sequence[Sequence[int]], work: Work, where: torch.device
) -> Iterator[Tensors]:
    """Yield `work` of the views, uint8 (b, 3, size, size), for each list of indices in `order`.

    A list is given to `work` in parts of at most `PART`; what these give is joined.

    On a CPU every core decodes and computes parts of its own. That is done ahead for some lists,
    and never beside whoever consumes them, who wants all cores too. For an accelerator, processes
    decode ahead into pinned memory while it computes.
    """
    inside = _on_cores if where.type == "cpu" else _on_accelerator
    parts = [list(indices[start : start + PART])
             for indices in order for start in range(0, len(indices), PART)]  # fmt: skip
    results = inside(views, parts, work)
    for indices in order:
        found = [next(results) for _ in range(0, len(indices), PART)]
        yield found[0] if len(found) == 1 else tuple(map(torch.cat, zip(*found, strict=True)))


def _on_cores(views: Views, parts: Sequence[list[int]], work: Work) -> Iterator[Tensors]:
    def one(part: list[int]) -> Tensors:
        return work(torch.stack([views[index] for index in part]))

    cores = torch.get_num_threads()
    at_once = max(WINDOW // PART, cores)
    with ThreadPoolExecutor(cores) as pool:
        for start in range(0, len(parts), at_once):
            with device.one_thread_each():
                found = list(pool.map(one, parts[start : start + at_once]))
            yield from found


def _on_accelerator(views: Views, parts: Sequence[list[int]], work: Work) -> Iterator[Tensors]:
    loader: DataLoader[Tensor] = DataLoader(
        views, batch_sampler=parts, num_workers=min(os.cpu_count() or 1, MOST_WORKERS),
        pin_memory=True, prefetch_factor=4,
        generator=torch.Generator(),  # or it would draw from the global one, and dropout differ
    )  # fmt: skip
    return map(work, loader)
