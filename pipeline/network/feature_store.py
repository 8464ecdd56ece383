"""Inputs of the suffix: features on disk, or computed in the loop."""

import json
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field, ValidationError

from pipeline.core.errors import REPAIR, PipelineError
from pipeline.network import feature_arrays
from pipeline.network.examples import Examples
from pipeline.network.feature_arrays import Array, Rows
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.loading.parallel_forward import Tensors
from pipeline.network.loading.streams import streams_of
from pipeline.network.model_folder import EngineName
from pipeline.network.views import EVALUATION, EncodedImages, Preprocess, Views
from pipeline.params import ImagesParams
from pipeline.params.section import Positive, Section, Seed

INDEX = "features.json"
RESIDENT_SHARE = 0.5  # of an accelerator's free memory: most that features may fill


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
    engine: EngineName
    """What computes the frozen part, "" if nothing is frozen."""
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

    @property
    def sub_batch(self) -> int:
        """Images per forward pass of a network that is only evaluated."""
        ...

    def batches(self, order: Sequence[Rows], view: int) -> Iterator[Tensors]:
        """For each array of rows of split.csv, tensors (B, ...) on a device.

        If there are several devices, arrays of `sub_batch` rows go to them in turn.
        """
        ...


class StoredFeatures:
    """Features on disk, and in the memory of each accelerator in which they fit."""

    def __init__(
        self, directory: Path, index: Index, examples: Examples, prefix: FrozenPrefix
    ) -> None:
        self._directory = directory
        self._index = index
        self._images = len(examples)
        self._devices = prefix.devices
        self.sub_batch = prefix.sub_batch
        self._training = examples.rows("train")  # sorted
        self._open: dict[int, list[Array]] = {}  # by view
        self._resident: dict[tuple[int, torch.device], Tensors] = {}
        size = index.gigabytes(self._images, len(self._training)) * 1e9
        self._fits = [
            size <= RESIDENT_SHARE * feature_arrays.free_memory(where) for where in self._devices
        ]

    @property
    def values_per_image(self) -> int:
        """Of one view."""
        return sum(prod(shape) for shape in self._index.shapes)

    def batches(self, order: Sequence[Rows], view: int) -> Iterator[Tensors]:
        rows = np.concatenate([np.zeros(0, np.int64), *order])
        positions = rows if view == EVALUATION else np.searchsorted(self._training, rows)
        lists = np.split(positions, np.cumsum([len(rows) for rows in order])[:-1])
        gatherers = [
            self._from_device(view, where, lists[number :: len(self._devices)])
            if fits
            else self._from_disk(view, where, lists[number :: len(self._devices)])
            for number, (where, fits) in enumerate(zip(self._devices, self._fits, strict=True))
        ]
        for number in range(len(order)):
            yield next(gatherers[number % len(gatherers)])

    def _from_disk(
        self, view: int, where: torch.device, lists: Sequence[Rows]
    ) -> Iterator[Tensors]:
        arrays = self._arrays(view)
        if where.type == "cpu":
            for positions in lists:
                yield tuple(torch.from_numpy(array[positions]).float() for array in arrays)
            return
        streams = streams_of(where)
        for values in feature_arrays.gather_ahead(arrays, lists, streams):
            yield tuple(streams.upload(value)[0].float() for value in values)

    def _from_device(
        self, view: int, where: torch.device, lists: Sequence[Rows]
    ) -> Iterator[Tensors]:
        tensors = self._on_device(view, where)
        if not lists:
            return
        positions = torch.from_numpy(np.concatenate(lists)).to(where)  # once for all batches
        for part in torch.split(positions, [len(rows) for rows in lists]):
            yield tuple(tensor.index_select(0, part).float() for tensor in tensors)

    def _on_device(self, view: int, where: torch.device) -> Tensors:
        if (view, where) not in self._resident:
            arrays = self._arrays(view)
            self._resident[view, where] = tuple(
                feature_arrays.copy_to(where, array) for array in arrays
            )
        return self._resident[view, where]

    def _arrays(self, view: int) -> list[Array]:
        if view not in self._open:
            count = self._images if view == EVALUATION else len(self._training)
            self._open[view] = [
                feature_arrays.load(array_path(self._directory, view, tensor), (count, *shape))
                for tensor, shape in enumerate(self._index.shapes)
            ]
        return self._open[view]


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
        self._encoded = EncodedImages(clean, examples.ids)
        self._params = params
        self._seed = index.seed
        self._prefix = prefix
        self.sub_batch = prefix.sub_batch

    def batches(self, order: Sequence[Rows], view: int) -> Iterator[Tensors]:
        views = Views(
            self._encoded.ids,
            self._encoded,
            self._prefix.preprocess,
            self._params,
            [view],
            self._seed,
        )
        return self._prefix.activations(views, (rows.tolist() for rows in order))


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
        PipelineError: `features` was computed by another prefix or engine, for other images, or of
            other views.
    """
    index = read_index(features)
    check_images(features, index, examples)
    if index.prefix != prefix.digest():
        raise PipelineError(
            f"{features} was made with other weights than the model now has: the file behind "
            "model.weights has changed, so run `dvc repro --force features`, then `dvc repro`"
        )
    if not index.stored:
        _check_engine(index, prefix)
        return StreamedFeatures(clean, params, index, examples, prefix)
    _check_views(features, index, params, prefix)
    return StoredFeatures(features, index, examples, prefix)


def check_images(features: Path, index: Index, examples: Examples) -> None:
    """Raise PipelineError if the features are of other images or pixels, or of other splits.

    Of several processes that train together, the first one does, which has the ids.
    """
    if examples.has_ids and index.images != examples.digest():
        raise PipelineError(
            f"{features} was computed for another data/split.csv, or for another data/clean: run "
            "`dvc repro` first"
        )


def _check_engine(index: Index, prefix: FrozenPrefix) -> None:
    """Raise PipelineError if other software would compute the features than the index names."""
    if prefix.engine != index.engine:
        raise PipelineError(
            f"stage features set up the frozen part for {index.engine}, but here {prefix.engine} "
            "would run it: run `dvc repro --force features`, then `dvc repro`"
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


def chunks(rows: Rows, size: int, least: int = 2) -> list[Rows]:
    """`rows` in chunks of `size`; if the last has fewer than `least`, it joins the one before."""
    starts = list(range(0, len(rows), size))
    if len(starts) > 1 and len(rows) - starts[-1] < least:
        starts.pop()
    ends = [*starts[1:], len(rows)]
    return [rows[start:end] for start, end in zip(starts, ends, strict=False)]
