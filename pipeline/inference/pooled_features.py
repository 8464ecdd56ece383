"""The features of the evaluation view, read block by block: they may be larger than the memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import REPAIR, PipelineError
from pipeline.network import feature_store
from pipeline.network.examples import Examples
from pipeline.network.feature_maps import average_maps
from pipeline.network.views import EVALUATION

BLOCK_BYTES = 2**24  # of features in memory at a time

Rows = npt.NDArray[np.int64]
Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Array:
    """An array in a .npy file. It is not memory-mapped, or all its pages would be resident."""

    path: Path
    dtype: np.dtype[np.float32]
    shape: tuple[int, ...]
    offset: int

    def read(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """Some consecutive rows."""
        size = prod(self.shape[1:])
        offset = self.offset + first * size * self.dtype.itemsize
        values = np.fromfile(self.path, self.dtype, (last - first) * size, offset=offset)
        return values.reshape(last - first, *self.shape[1:])


@dataclass(frozen=True)
class Features:
    """The features of all images of split.csv."""

    arrays: Sequence[_Array]

    @property
    def block_rows(self) -> int:
        """Images per block."""
        row_bytes = sum(prod(array.shape[1:]) * array.dtype.itemsize for array in self.arrays)
        return max(1, BLOCK_BYTES // row_bytes)

    def read(self, rows: Rows) -> Values:
        """The features of some images that lie close together, (len(rows), D).

        Feature maps are averaged.
        """
        first, last = int(rows.min()), int(rows.max()) + 1
        tensors = []
        for array in self.arrays:
            values = array.read(first, last)[rows - first].astype(np.float32, copy=False)
            tensors.append(average_maps(values))
        return tensors[0] if len(tensors) == 1 else np.concatenate(tensors, axis=1)

    def read_apart(self, rows: Rows) -> Values:
        """The features of any images, (len(rows), D).

        They are read singly: `read` takes all rows between the first and the last.
        """
        return np.concatenate([self.read(rows[place : place + 1]) for place in range(len(rows))])

    def thin(self, rows: Rows, max_images: int, max_bytes: int) -> Rows:
        """Rows at equal distances, such that their features in memory are within the limits.

        Rows are sorted by id, which is a digest, so these are a random but stable choice. There is
        at least one.
        """
        row_bytes = self.read(rows[:1]).nbytes
        size = min(len(rows), max_images, max(1, max_bytes // row_bytes))
        return rows[np.arange(size) * len(rows) // size]


def open_features(folder: Path, examples: Examples) -> Features:
    """Open the features of some images.

    Raises:
        PipelineError: there are none, they are of other images, or a file is damaged.
    """
    if not (folder / feature_store.INDEX).exists():
        raise PipelineError(f"there are no features in {folder}: run `dvc repro features` first")
    index = feature_store.read_index(folder)
    feature_store.check_images(folder, index, examples)
    if not index.stored:
        raise PipelineError(
            f"{folder} has no features ({index.why}), and wrong labels, outliers, drift and "
            "similar images are found by them: run with `-S model.trainable=head` first"
        )
    paths = [
        feature_store.array_path(folder, EVALUATION, tensor) for tensor in range(len(index.shapes))
    ]
    return Features([_open(path) for path in paths])


def normalised(values: Values) -> Values:
    """Rows of length 1, but zeros where a row is zero."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    smallest = np.finfo(np.float32).tiny
    result: Values = (values / np.maximum(norms, smallest)).astype(np.float32, copy=False)
    return result


def _open(path: Path) -> _Array:
    try:
        array = np.load(path, mmap_mode="r")
    except (EOFError, ValueError) as error:  # empty, or cut off
        raise PipelineError(f"{path} is damaged ({error}): {REPAIR}") from error
    return _Array(path, array.dtype, array.shape, array.offset)
