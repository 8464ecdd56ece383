"""Stage features: the frozen part of the network, run once per image and view."""

from collections.abc import Container, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.images import mapping, memo
from pipeline.images.memo import Memo
from pipeline.network import (
    assembly,
    device,
    feature_store,
    views,
)
from pipeline.network.examples import Examples
from pipeline.network.feature_store import Index
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.halves import Halves
from pipeline.network.parallel_forward import SUB_BATCH
from pipeline.network.views import EVALUATION
from pipeline.params import ImagesParams, Params

CHUNK_BYTES = 2**26  # of activations that are computed before they are remembered
LIBRARIES = ["torch", "torchvision", "opencv-python-headless", "numpy", "lightning-fabric", "timm"]


def frozen_part(params: Params) -> FrozenPrefix:
    """The prefix of the configured network."""
    made = assembly.assemble(params.model, params.images, params.features.seed)
    fabric = device.start(params.device, alone=True)
    halves = Halves(
        made.cut,
        made.preprocess,
        fabric,
        params.features.precision,
        params.features.dtype,
        params.device.compile,
    )
    return halves.prefix


def describe(params: Params, part: FrozenPrefix, examples: Examples) -> Index:
    """What will be stored, or why nothing will be."""
    index = Index(
        stored=True,
        why="",
        seed=params.features.seed,
        augment=params.images.augment,
        views=params.features.views,
        dtype=params.features.dtype,
        precision=part.precision,
        prefix=part.digest(),
        images=examples.digest(),
        shapes=[list(shape) for shape in part.shapes()],
    )
    size = index.gigabytes(len(examples.ids), len(examples.rows("train")))
    why = f"{size:.3g} GB of activations"
    if part.cut.prefix is None:
        return index.model_copy(update={"stored": False, "why": "nothing is frozen"})
    if size > params.features.max_gigabytes:
        why += f", past features.max_gigabytes={params.features.max_gigabytes:g}"
        return index.model_copy(update={"stored": False, "why": why})
    return index.model_copy(update={"why": why})


@dataclass(frozen=True)
class FeatureSettings:
    """All that decides what the activations of an image and a view are."""

    part: FrozenPrefix
    params: ImagesParams
    index: Index


def compute(
    batch: pa.RecordBatch, maker: FeatureSettings, numbers: Sequence[int]
) -> pa.RecordBatch:
    """Activations of some views, by number, for rows of a clean shard: id, and `_columns` of each.

    All views of an image are made of one decoding.
    """
    ids, part = batch.column("id").to_pylist(), maker.part
    seen = views.Views(
        ids,
        _Column(batch.column("bytes")),
        part.preprocess,
        maker.params,
        numbers,
        maker.index.seed,
    )
    (tensors,) = part.activations(seen, [range(len(seen))])
    arrays: dict[str, pa.Array] = {"id": batch.column("id")}
    for place, number in enumerate(numbers):
        for name, values in zip(_columns(maker.index, number), tensors, strict=True):
            flat = values[place :: len(numbers)].to(part.dtype).flatten(1).cpu().numpy()
            if part.dtype == torch.float16 and np.isinf(flat).any():
                raise PipelineError(
                    "features.dtype=float16 cannot hold what the frozen part computes (65,504 at "
                    "most): use features.dtype=float32"
                )
            arrays[name] = pa.FixedSizeListArray.from_arrays(
                shards.array(flat.ravel()), flat.shape[1]
            )
    return pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))


def _columns(index: Index, number: int) -> list[str]:
    return [f"view_{number}.tensor_{tensor}" for tensor in range(len(index.shapes))]


class _Column(Sequence[bytes]):
    """An Arrow column of images, each copied out when it is asked for."""

    def __init__(self, column: pa.Array) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self.column[index].as_py()


class JoinedMemos:
    """The memos of some views, each of which may know more than the others, as one."""

    def __init__(self, index: Index, memos: Mapping[int, Memo]) -> None:
        self._index = index
        self._memos = memos

    def __contains__(self, key: str) -> bool:
        return all(key in each for each in self._memos.values())

    def add(self, batch: pa.RecordBatch) -> None:
        for number, each in self._memos.items():
            part = batch.select(["id", *_columns(self._index, number)])
            each.add(part.rename_columns(_schema(self._index).names))


def fill(
    maker: FeatureSettings, clean: Path, memos: Mapping[int, Memo], ids: Container[str]
) -> None:
    """Compute what `memos`, by number of the view, lack of some images."""
    mapping.remember(
        partial(compute, maker=maker, numbers=list(memos)),
        clean,
        JoinedMemos(maker.index, memos),
        title="features",
        only=ids,
        most=_rows(maker.index, len(memos)),
    )


def _rows(index: Index, views: int) -> int:
    """Images that are held at a time; so many, if need be, that their views fill a batch."""
    image = views * sum(map(prod, index.shapes)) * np.dtype(np.float32).itemsize
    return max(-(-SUB_BATCH // views), min(mapping.CHUNK, CHUNK_BYTES // image))


def write(directory: Path, index: Index, remembered: Memo, ids: Sequence[str], number: int) -> None:
    """The arrays of one view, whose rows are `ids`.

    Written in order, not through a map into memory, in which a full disk is a killed process.
    """
    rows = _rows(index, 1)
    with ExitStack() as stack:
        files = []
        for tensor, shape in enumerate(index.shapes):
            path = feature_store.array_path(directory, number, tensor)
            files.append(stack.enter_context(path.open("wb")))
            np.lib.format.write_array_header_1_0(
                files[-1],
                {
                    "descr": np.lib.format.dtype_to_descr(np.dtype(index.dtype)),
                    "fortran_order": False,
                    "shape": (len(ids), *shape),
                },
            )
        for start in range(0, len(ids), rows):
            found = remembered.get(ids[start : start + rows], _schema(index))
            for tensor, file in enumerate(files):
                file.write(np.from_dlpack(found.column(f"tensor_{tensor}").flatten()).tobytes())


def store(directory: Path, clean: Path, maker: FeatureSettings, examples: Examples) -> None:
    """The evaluation view of all images, and the augmented views of those that train."""
    training = [examples.ids[row] for row in examples.rows("train")]
    others = set(examples.ids) - set(training)
    memos = {number: _memo(maker, number) for number in range(maker.index.views + 1)}
    lacking: dict[tuple[int, ...], set[str]] = {}  # which views, and the images that lack these
    for key in examples.ids:
        wanted = [EVALUATION] if key in others else memos
        lacking.setdefault(tuple(n for n in wanted if key not in memos[n]), set()).add(key)
    for numbers, keys in lacking.items():
        if numbers:
            fill(maker, clean, {number: memos[number] for number in numbers}, keys)
    for number, each in memos.items():
        ids = training if number else examples.ids
        write(directory, maker.index, each, ids, number)


def _schema(index: Index) -> pa.Schema:
    value = pa.from_numpy_dtype(index.dtype)
    tensors = [
        (f"tensor_{number}", pa.list_(value, int(np.prod(shape))))
        for number, shape in enumerate(index.shapes)
    ]
    return pa.schema([("id", pa.string()), *tensors])


def _memo(maker: FeatureSettings, number: int) -> Memo:
    """The evaluation view's does not depend on how the others are augmented."""
    part, index = maker.part, maker.index
    augmentation = maker.params.augmentation() | {"seed": index.seed}
    values = {
        "prefix": index.prefix,
        "preprocess": part.preprocess.model_dump(),
        "dtype": index.dtype,
        "augmentation": augmentation if number else {},
        "device": part.device.type,
        "precision": part.precision,
        "compiled": part.compiled,
        "gpu": torch.cuda.get_device_name() if part.device.type == "cuda" else "",
    }
    return Memo("features", memo.fingerprint(values, [__name__], LIBRARIES), f"view_{number}")
