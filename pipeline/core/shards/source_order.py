"""The order of a source's rows in shards that have grown: order.npy beside them.

The shards of a first run hold the rows in the source's order, and have no such file.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import REPAIR, PipelineError

NAME = "order.npy"

Order = npt.NDArray[np.uint32]
"""(N,): for each row in the source's order, its position in all shards together."""


def write_order(directory: Path, positions: npt.NDArray[np.int64]) -> None:
    """Write `positions`, unless the rows lie in the source's order."""
    if not np.array_equal(positions, np.arange(len(positions))):
        np.save(directory / NAME, positions.astype("<u4"), allow_pickle=False)


def read_order(directory: Path, count: int) -> Order | None:
    """The order of the `count` rows of a folder; None where they lie in the source's order.

    Raises:
        PipelineError: the file is not an order of so many rows.
    """
    path = directory / NAME
    if not path.exists():
        return None
    try:
        order = np.load(path, allow_pickle=False)
    except (EOFError, ValueError) as error:  # empty, or cut off
        raise PipelineError(f"{path} is damaged ({error}): {REPAIR}") from error
    if not _is_permutation(order, count):
        raise PipelineError(f"{path} is not an order of {count} images: {REPAIR}")
    return np.asarray(order)


def _is_permutation(order: npt.NDArray[np.generic], count: int) -> bool:
    if order.dtype != np.dtype("<u4") or order.shape != (count,):
        return False
    is_listed = np.zeros(count, bool)
    is_listed[order[np.less(order, count)]] = True
    return bool(is_listed.all())
