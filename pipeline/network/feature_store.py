"""What the loop runs over: the suffix's inputs, from the cache or computed on the way."""

import json
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from pipeline.core.errors import PipelineError
from pipeline.network import views
from pipeline.network.examples import Examples
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.parallel_forward import Tensors
from pipeline.network.views import EVALUATION
from pipeline.params import ImagesParams

INDEX = "features.json"


class Index(BaseModel):
    """features.json: what the features folder holds, or why it holds nothing."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    stored: bool
    why: str
    """In words, for whoever looks."""
    seed: int
    augment: str
    views: int
    """Augmented views per training image."""
    dtype: Literal["float32", "float16"]
    precision: str
    """What the frozen part computes in."""
    shapes: list[list[int]]
    """Of each tensor that crosses the cut, per image."""
    prefix: str
    """Digest of the frozen part, "" where there is none."""
    images: str
    """Digest of the ids and splits that it was computed for."""

    def view_of(self, epoch: int) -> int:
        """Which view the images of the training set show in an epoch, counted from 0.

        Cached views take turns, the plain one last; where nothing is frozen every epoch has a new
        one.
        """
        if self.augment == "none":
            return EVALUATION
        return (epoch + 1) % (self.views + 1) if self.prefix else epoch + 1

    def gigabytes(self, images: int, training: int) -> float:
        """Size of the cache, in 10^9 bytes."""
        values = (images + self.views * training) * sum(prod(shape) for shape in self.shapes)
        return values * np.dtype(self.dtype).itemsize / 1e9


def array_path(directory: Path, view: int, tensor: int) -> Path:
    """One file per view and tensor: rows as split.csv has them, of train alone past view 0."""
    return directory / f"view_{view}.tensor_{tensor}.npy"


class Source(Protocol):
    """Inputs of the suffix, whichever way they come about."""

    def batches(self, order: Sequence[Sequence[int]], view: int) -> Iterator[Tensors]:
        """For each list of rows of split.csv, tensors (B, ...) on the device."""
        ...


class Cached:
    """Memory-mapped features."""

    def __init__(
        self, directory: Path, index: Index, examples: Examples, frozen: FrozenPrefix
    ) -> None:
        self._directory = directory
        self._tensors = range(len(index.shapes))
        self._device = frozen.device
        self._row_of_train = {row: place for place, row in enumerate(examples.rows("train"))}
        self._open: dict[int, list[npt.NDArray[Any]]] = {}

    def batches(self, order: Sequence[Sequence[int]], view: int) -> Iterator[Tensors]:
        arrays = self._arrays(view)
        for rows in order:
            places = rows if view == EVALUATION else [self._row_of_train[row] for row in rows]
            values = [torch.from_numpy(array[places]).float() for array in arrays]
            yield tuple(value.to(self._device) for value in values)

    def _arrays(self, view: int) -> list[npt.NDArray[Any]]:
        if view not in self._open:
            files = [array_path(self._directory, view, tensor) for tensor in self._tensors]
            # As plain arrays: numpy's memmap takes twice as long to gather a batch.
            self._open[view] = [np.asarray(np.load(file, mmap_mode="r")) for file in files]
        return self._open[view]


class Streamed:
    """Features computed on the way: when nothing is frozen, or the cache would be too big."""

    def __init__(
        self,
        clean: Path,
        params: ImagesParams | None,
        index: Index,
        examples: Examples,
        frozen: FrozenPrefix,
    ) -> None:
        self._ids = examples.ids
        self._encoded = views.Stored(clean, examples.ids)
        self._chosen = params
        self._seed = index.seed
        self._frozen = frozen

    def batches(self, order: Sequence[Sequence[int]], view: int) -> Iterator[Tensors]:
        seen = views.Views(
            self._ids, self._encoded, self._frozen.preprocess, self._chosen, [view], self._seed
        )
        return self._frozen.activations(seen, order)


def open_source(
    features: Path,
    clean: Path,
    params: ImagesParams | None,
    examples: Examples,
    frozen: FrozenPrefix,
) -> Source:
    """The cache where `features` holds one, else the images of `clean` through the frozen part.

    Args:
        params: How views are augmented, or None where the evaluation view is all that is wanted.

    Raises:
        PipelineError: `features` was made with another frozen part.
    """
    index = read_index(features)
    check_images(features, index, examples)
    if index.prefix != frozen.digest():
        raise PipelineError(
            f"{features} was made with other weights than the model now has: the file behind "
            "model.weights has changed, so run `dvc repro --force features`, then `dvc repro`"
        )
    if not index.stored:
        return Streamed(clean, params, index, examples, frozen)
    return Cached(features, index, examples, frozen)


def check_images(features: Path, index: Index, examples: Examples) -> None:
    """Refuse features of other images, or of the same in other splits."""
    if index.images != examples.digest():
        raise PipelineError(
            f"{features} was computed for another data/split.csv: run `dvc repro` first"
        )


def read_index(features: Path) -> Index:
    """What `features` says that it holds.

    Raises:
        PipelineError: an older version of the pipeline wrote it, or it is damaged.
    """
    try:
        return Index.model_validate_json((features / INDEX).read_bytes())
    except ValidationError as error:
        raise PipelineError(f"{features / INDEX} is of another version: run `dvc repro`") from error


def write_index(features: Path, index: Index) -> None:
    (features / INDEX).write_text(json.dumps(index.model_dump(), indent=2) + "\n")


def chunks(rows: Sequence[int], size: int, least: int = 2) -> list[list[int]]:
    """`rows` in lists of `size`; a last one of less than `least` joins its neighbours."""
    lists = [list(rows[start : start + size]) for start in range(0, len(rows), size)]
    if len(lists) > 1 and len(lists[-1]) < least:
        lone = lists.pop()
        lists[-1] += lone
    return lists


@torch.no_grad()
def logits(suffix: nn.Module, source: Source, rows: Sequence[int], size: int) -> Tensor:
    """The evaluation view's scores, float32 (len(rows), classes) on the CPU."""
    suffix.eval()
    parts = [suffix(*inputs) for inputs in source.batches(chunks(rows, size), EVALUATION)]
    return torch.cat(parts).float().cpu()
