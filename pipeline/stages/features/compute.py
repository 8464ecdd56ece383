"""Compute the features: the outputs of the frozen prefix, once per image and view."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.images import decoder_versions, mapping, memo
from pipeline.images.chunk_runs import Chunk
from pipeline.images.key_index import KeySet
from pipeline.images.memo import KEY, BoolArray, Keys, Memo
from pipeline.network import assembly, device
from pipeline.network.examples import Examples
from pipeline.network.feature_store import Index
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.halves import Halves
from pipeline.network.loading.sub_batch import ON_CPU
from pipeline.network.views import EncodedImages, Views
from pipeline.params import ImagesParams, Params
from pipeline.stages.features.disk_space import format_size

CHUNK_BYTES = 2**26  # of features computed before they are written to the memo
LIBRARIES = [*decoder_versions.LIBRARIES, "torch", "torchvision", "lightning-fabric", "timm"]


def frozen_prefix(params: Params) -> FrozenPrefix:
    """The prefix of the configured network."""
    assembled = assembly.assemble(params.model, params.images, params.features.seed)
    assembly.check_stored_size(assembled.preprocess, params.filter)
    halves = Halves(
        assembled.cut,
        assembled.preprocess,
        device.start(params.device, alone=True),
        params.features.precision,
        params.features.dtype,
        params.device.compile,
        all_gpus=True,
    )
    return halves.prefix


def describe(params: Params, prefix: FrozenPrefix, examples: Examples) -> Index:
    """The index of the features; whether they are stored, and the size or the reason.

    Raises:
        PipelineError: training images would not be augmented, although the params say so.
    """
    if prefix.cut.prefix is not None and params.images.parts and not params.features.views:
        raise PipelineError(
            f"images.augment is {params.images.augment}, but features.views is 0 and a part of the "
            "network is frozen, so that no image would be augmented: set features.views=4, or "
            "images.augment=none"
        )
    index = Index(
        stored=True,
        why="",
        seed=params.features.seed,
        augment=params.images.augment,
        augmentation=params.images.augmentation(),
        views=params.features.views,
        dtype=params.features.dtype,
        precision=prefix.precision,
        engine=prefix.engine,
        prefix=prefix.digest(),
        preprocess=prefix.preprocess,
        images=examples.digest(),
        shapes=[list(shape) for shape in prefix.shapes()],
    )
    size = index.gigabytes(len(examples), len(examples.rows("train")))
    why = f"{format_size(size)} of activations, by {prefix.engine}"
    if prefix.why:
        why += f" ({prefix.why})"
    if prefix.cut.prefix is None:
        return index.model_copy(update={"stored": False, "why": "nothing is frozen"})
    if size > params.features.max_gigabytes:
        why += f", past features.max_gigabytes={params.features.max_gigabytes:g}"
        return index.model_copy(update={"stored": False, "why": why})
    return index.model_copy(update={"why": why})


@dataclass(frozen=True)
class FeatureSettings:
    """Everything that decides the features of an image and a view."""

    prefix: FrozenPrefix
    params: ImagesParams
    index: Index


def compute(
    places: Sequence[Chunk],
    sizes: Iterator[int],
    settings: FeatureSettings,
    numbers: Sequence[int],
) -> Iterator[pa.RecordBatch]:
    """The features of some views, by number, of images in clean shards.

    Each image is decoded once for all its views. Columns: those of `_columns` per view.

    Args:
        places: Rows of shards.
        sizes: How many of the images each batch of results is of.
    """
    prefix, index = settings.prefix, settings.index
    encoded = EncodedImages.at(places)
    views = Views(encoded.ids, encoded, prefix.preprocess, settings.params, numbers, index.seed)
    for tensors in prefix.activations(views, _ranges(sizes, len(numbers)), on_host=True):
        arrays: dict[str, pa.Array] = {}
        for position, number in enumerate(numbers):
            for name, values in zip(_columns(index, number), tensors, strict=True):
                arrays[name] = _array(values[position :: len(numbers)])
        yield pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))


def _ranges(sizes: Iterator[int], views: int) -> Iterator[range]:
    """Indices into `Views` of so many images each."""
    start = 0
    for size in sizes:
        yield range(start, start + size * views)
        start += size * views


def _array(values: Tensor) -> pa.Array:
    """A column of lists, one per row of `values` (B, ...)."""
    rows = values.flatten(1).numpy()
    if not np.isfinite(rows).all():
        raise PipelineError(
            "features.dtype=float16 cannot hold what the frozen part computes (65,504 at "
            "most): use features.dtype=float32"
            if values.dtype == torch.float16
            else "the frozen part computes values that are not finite numbers: use "
            "features.precision=32-true, or other weights (model.weights)"
        )
    return pa.FixedSizeListArray.from_arrays(shards.array(rows.ravel()), rows.shape[1])


def _columns(index: Index, number: int) -> list[str]:
    return [f"view_{number}.tensor_{tensor}" for tensor in range(len(index.shapes))]


class JoinedMemos:
    """The memos of several views as one: it lacks a result if one of them does."""

    def __init__(self, index: Index, memos: Mapping[int, Memo]) -> None:
        self._index = index
        self._memos = memos

    def missing(self, keys: Keys) -> BoolArray:
        lacks: BoolArray = np.any(
            [view_memo.missing(keys) for view_memo in self._memos.values()], axis=0
        )
        return lacks

    def add(self, batch: pa.RecordBatch) -> None:
        def add_view(number: int) -> None:
            view_memo = self._memos[number]
            columns = batch.select([KEY.name, *_columns(self._index, number)])
            view_memo.add(columns.rename_columns([KEY.name, *view_memo.schema.names]))

        with ThreadPoolExecutor() as pool:  # they wait for the disk at the same time
            list(pool.map(add_view, self._memos))


def fill(
    settings: FeatureSettings,
    clean: Path,
    memos: Mapping[int, Memo],
    ids: KeySet,
    paths: Sequence[Path] | None = None,
) -> None:
    """Compute the features of some images that `memos`, by number of the view, do not have.

    Args:
        paths: Some shards of `clean`; None for all.
    """
    mapping.remember(
        partial(compute, settings=settings, numbers=list(memos)),
        clean,
        JoinedMemos(settings.index, memos),
        title=f"features ({_name_views(len(memos) - 1)})",
        only=ids,
        paths=paths,
        most=chunk_rows(settings.index, len(memos)),
    )


def _name_views(augmented: int) -> str:
    """For a bar, whose line is short."""
    return f"evaluation view and {augmented} augmented" if augmented else "evaluation view"


def chunk_rows(index: Index, views: int) -> int:
    """Images per chunk; at least so many that their views fill a batch."""
    image_bytes = views * sum(map(prod, index.shapes)) * np.dtype(np.float32).itemsize
    return max(-(-ON_CPU // views), min(mapping.CHUNK, CHUNK_BYTES // image_bytes))


def open_memos(settings: FeatureSettings) -> dict[int, Memo]:
    """The memo of each view, by its number."""
    return {number: open_memo(settings, number) for number in range(settings.index.views + 1)}


def _schema(index: Index) -> pa.Schema:
    value = pa.from_numpy_dtype(index.dtype)
    tensors = [
        (f"tensor_{number}", pa.list_(value, int(np.prod(shape))))
        for number, shape in enumerate(index.shapes)
    ]
    return pa.schema(tensors)


def open_memo(settings: FeatureSettings, number: int) -> Memo:
    """The memo of a view; the evaluation view's does not depend on the augmentation."""
    prefix, index = settings.prefix, settings.index
    augmentation = settings.params.augmentation() | {"seed": index.seed}
    values = {
        "prefix": index.prefix,
        "preprocess": prefix.preprocess.model_dump(),
        "dtype": index.dtype,
        "augmentation": augmentation if number else {},
        "precision": prefix.precision,
        "compiled": prefix.compiled,
        "engine": index.engine,
        "sub_batch": prefix.sub_batch,
        "device": device.arithmetic(prefix.device),
        "codecs": decoder_versions.codecs(),
    }
    key = memo.fingerprint(values, [__name__], LIBRARIES)
    return Memo("features", key, _schema(index), f"view_{number}")
