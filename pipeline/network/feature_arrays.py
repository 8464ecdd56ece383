"""Arrays of features: mapped from the disk, gathered, copied to an accelerator."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.core.errors import REPAIR, PipelineError
from pipeline.network.loading.streams import Streams

COPY_BYTES = 2**26  # copied to an accelerator at a time
GATHERED_AHEAD = 2  # batches read from the disk ahead of their use

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]


def load(file: Path, shape: tuple[int, ...]) -> Array:
    """Map an array into memory.

    Raises:
        PipelineError: the file is damaged.
    """
    try:
        # As a plain array: gathering a batch from np.memmap takes twice as long.
        array = np.asarray(np.load(file, mmap_mode="r"))
        if array.shape != shape:
            raise ValueError(f"its shape is {array.shape}, not {shape}")
    except (EOFError, ValueError) as error:  # empty, or cut off
        raise PipelineError(f"{file} is damaged ({error}): {REPAIR}") from error
    return array


def free_memory(where: torch.device) -> int:
    """Bytes in which a device can hold features; 0 if it reads them from the host's memory."""
    return torch.cuda.mem_get_info(where)[0] if where.type == "cuda" else 0


def copy_to(where: torch.device, array: Array) -> Tensor:
    """The whole array in the memory of a device."""
    rows = max(1, COPY_BYTES * len(array) // max(array.nbytes, 1))
    parts = range(0, max(len(array), 1), rows)
    tensor = torch.empty(array.shape, dtype=_writable(array[:0]).dtype, device=where)
    for start in parts:
        tensor[start : start + rows] = _writable(array[start : start + rows]).to(where)
    return tensor


def _writable(part: Array) -> Tensor:
    """A copy: torch warns of memory that is read-only."""
    return torch.from_numpy(np.array(part))


def gather_ahead(
    arrays: Sequence[Array], lists: Sequence[Rows], streams: Streams
) -> Iterator[tuple[Tensor, ...]]:
    """These rows of the arrays, in page-locked memory; a thread reads two batches ahead."""

    def gather(rows: Rows) -> tuple[Tensor, ...]:
        return tuple(streams.pinned(torch.from_numpy(array[rows])) for array in arrays)

    running: deque[Future[tuple[Tensor, ...]]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for rows in lists:
            running.append(pool.submit(gather, rows))
            if len(running) > GATHERED_AHEAD:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
