"""Blocks of rows with whole groups, computed on all cores with the same bytes as on one.

A block is computed by one thread, with BLAS on one thread, and results are added in the blocks'
order. So no sum depends on the number of threads.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.solvers.problem import Numbers

ROWS = 1024  # of a block, unless a group is larger
MAX_THREADS = 8  # each has a block of some 50 MB

T = TypeVar("T")
R = TypeVar("R")


def equal_blocks(count: int, size: int = ROWS) -> list[Numbers]:
    """The numbers below `count` in blocks of `size`."""
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def whole_groups(groups: Numbers, size: int = ROWS) -> list[Numbers]:
    """The rows in blocks of about `size`, sorted by group; a larger group is a block by itself."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[:1]] - 1))
    ends = np.append(starts[1:], len(order))
    blocks: list[Numbers] = []
    first = 0
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if end - first > size and start > first:
            blocks.append(order[first:start])
            first = start
    return [*blocks, order[first:]]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within the block, BLAS computes each product on the thread that asks for it."""
    with threadpool_limits(1, user_api="blas"):
        yield


def map_blocks(function: Callable[[T], R], blocks: Sequence[T]) -> Iterator[R]:
    """Yield `function(block)` for each block, in order; few results wait in memory."""
    threads = min(MAX_THREADS, os.cpu_count() or 1)
    if min(threads, len(blocks)) == 1:  # starting threads takes longer than a small block
        yield from map(function, blocks)
        return
    running: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for block in blocks:
            running.append(pool.submit(function, block))
            if len(running) > threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
