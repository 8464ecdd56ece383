"""Inputs of the suffix: features on disk, or computed in the loop."""

import json
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from pipeline.core.errors import REPAIR, PipelineError
from pipeline.network.examples import Examples
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.parallel_forward import Tensors
from pipeline.network.views import EVALUATION, EncodedImages, Preprocess, Views
from pipeline.params import ImagesParams
from pipeline.params.section import Positive, Section, Seed

INDEX = "features.json"


class Index(Section):
    """features.json: which features the folder has, or why it has none."""

    stored: bool
    why: str
    """For people: the size, or the reason that nothing is stored."""
    seed: Seed
    augment: str
    augmentation: dict[str, list[Any]]
    """The parts of `augment`, with the values of their params."""
    views: Annotated[int, Field(ge=0, le=100)]
    """Augmented views per training image."""
    dtype: Literal["float32", "float16"]
    precision: Annotated[str, Field(pattern="^(auto|32-true|bf16-mixed|16-mixed)$")]
    """What the frozen part computes in, as features.precision."""
    shapes: list[list[Positive]]
    """Of each tensor at the cut, per image."""
    prefix: str
    """Digest of the frozen part, "" if nothing is frozen."""
    preprocess: Preprocess
    images: str
    """Digest of the ids, splits and bytes of its images."""

    def view_of(self, epoch: int) -> int:
        """The number of the view that an epoch trains on; epochs count from 0.

        Epochs take turns over the stored views, the evaluation view last; if nothing is frozen,
        every epoch has a new view.
        """
        if self.augment == "none":
            return EVALUATION
        return (epoch + 1) % (self.views + 1) if self.prefix else epoch + 1

    def gigabytes(self, images: int, training: int) -> float:
        """Size of the features on disk, in 10^9 bytes."""
        values = (images + self.views * training) * sum(prod(shape) for shape in self.shapes)
        return values * np.dtype(self.dtype).itemsize / 1e9


def array_path(directory: Path, view: int, tensor: int) -> Path:
    """The file of one view and tensor: the rows of split.csv, after view 0 of train only."""
    return directory / f"view_{view}.tensor_{tensor}.npy"


class Source(Protocol):
    """Inputs of the suffix."""

    def batches(self, order: Sequence[Sequence[int]], view: int) -> Iterator[Tensors]:
        """For each list of rows of split.csv, tensors (B, ...) on the device."""
        ...


class StoredFeatures:
    """Memory-mapped features."""

    def __init__(
        self, directory: Path, index: Index, examples: Examples, prefix: FrozenPrefix
    ) -> None:
        self._directory = directory
        self._index = index
        self._images = len(examples.ids)
        self._device = prefix.device
        self._position = {row: position for position, row in enumerate(examples.rows("train"))}
        self._open: dict[int, list[npt.NDArray[Any]]] = {}

    def batches(self, order: Sequence[Sequence[int]], view: int) -> Iterator[Tensors]:
        arrays = self._arrays(view)
        for rows in order:
            positions = rows if view == EVALUATION else [self._position[row] for row in rows]
            values = [torch.from_numpy(array[positions]).float() for array in arrays]
            yield tuple(value.to(self._device) for value in values)

    def _arrays(self, view: int) -> list[npt.NDArray[Any]]:
        if view not in self._open:
            count = self._images if view == EVALUATION else len(self._position)
            self._open[view] = [
                _load_array(array_path(self._directory, view, tensor), (count, *shape))
                for tensor, shape in enumerate(self._index.shapes)
            ]
        return self._open[view]


def _load_array(file: Path, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    try:
        # As a plain array: gathering a batch from np.memmap takes twice as long.
        array = np.asarray(np.load(file, mmap_mode="r"))
        if array.shape != shape:
            raise ValueError(f"its shape is {array.shape}, not {shape}")
    except (EOFError, ValueError) as error:  # empty, or cut off
        raise PipelineError(f"{file} is damaged ({error}): {REPAIR}") from error
    return array


class StreamedFeatures:
    """Features computed in the loop, because nothing is frozen or they would fill the disk."""

    def __init__(
        self,
        clean: Path,
        params: ImagesParams | None,
        index: Index,
        examples: Examples,
        prefix: FrozenPrefix,
    ) -> None:
        self._ids = examples.ids
        self._encoded = EncodedImages(clean, examples.ids)
        self._params = params
        self._seed = index.seed
        self._prefix = prefix

    def batches(self, order: Sequence[Sequence[int]], view: int) -> Iterator[Tensors]:
        views = Views(
            self._ids, self._encoded, self._prefix.preprocess, self._params, [view], self._seed
        )
        return self._prefix.activations(views, order)


def open_source(
    features: Path,
    clean: Path,
    params: ImagesParams | None,
    examples: Examples,
    prefix: FrozenPrefix,
) -> Source:
    """The stored features if `features` has any, else the images of `clean` through the prefix.

    Args:
        params: How views are augmented, or None if only the evaluation view is needed.

    Raises:
        PipelineError: `features` was computed by another prefix, for other images, or of other
            views.
    """
    index = read_index(features)
    check_images(features, index, examples)
    if index.prefix != prefix.digest():
        raise PipelineError(
            f"{features} was made with other weights than the model now has: the file behind "
            "model.weights has changed, so run `dvc repro --force features`, then `dvc repro`"
        )
    if not index.stored:
        return StreamedFeatures(clean, params, index, examples, prefix)
    _check_views(features, index, params, prefix)
    return StoredFeatures(features, index, examples, prefix)


def check_images(features: Path, index: Index, examples: Examples) -> None:
    """Raise PipelineError if the features are of other images or pixels, or of other splits."""
    if index.images != examples.digest():
        raise PipelineError(
            f"{features} was computed for another data/split.csv, or for another data/clean: run "
            "`dvc repro` first"
        )


def _check_views(
    features: Path, index: Index, params: ImagesParams | None, prefix: FrozenPrefix
) -> None:
    """Raise PipelineError if the features are of other views than the network gets."""
    is_augmented_so = params is None or params.augmentation() == index.augmentation
    if index.preprocess != prefix.preprocess or not is_augmented_so:
        raise PipelineError(
            f"{features} was computed with other values of `images` than are in params.yaml, or "
            "than the model was trained with: run `dvc repro` first"
        )


def read_index(features: Path) -> Index:
    """The index of the folder `features`.

    Raises:
        PipelineError: another version of the pipeline wrote it, or it is damaged.
    """
    try:
        return Index.model_validate_json((features / INDEX).read_bytes())
    except ValidationError as error:
        raise PipelineError(
            f"{features / INDEX} is damaged, or of another version: {REPAIR}"
        ) from error


def write_index(features: Path, index: Index) -> None:
    (features / INDEX).write_text(json.dumps(index.model_dump(), indent=2) + "\n")


def chunks(rows: Sequence[int], size: int, least: int = 2) -> list[list[int]]:
    """`rows` in lists of `size`; if the last has fewer than `least`, it joins the one before."""
    lists = [list(rows[start : start + size]) for start in range(0, len(rows), size)]
    if len(lists) > 1 and len(lists[-1]) < least:
        rest = lists.pop()
        lists[-1] += rest
    return lists


@torch.no_grad()
def logits(suffix: nn.Module, source: Source, rows: Sequence[int], size: int) -> Tensor:
    """The scores of the evaluation view, float32 (len(rows), classes) on the CPU."""
    suffix.eval()
    batches = [suffix(*inputs) for inputs in source.batches(chunks(rows, size), EVALUATION)]
    return torch.cat(batches).float().cpu()
