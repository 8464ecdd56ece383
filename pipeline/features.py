"""Stage features: the frozen part of the network, run once per image and view."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from pipeline import (
    atomic,
    batches,
    device,
    feed,
    frozen,
    images,
    mapping,
    memo,
    params,
    stage,
    views,
)  # fmt: skip
from pipeline.batches import Examples, Index
from pipeline.frozen import Frozen
from pipeline.network import assembly, cut
from pipeline.params import Images, Params

LIBRARIES = ["torch", "torchvision", "opencv-python-headless", "numpy", "lightning-fabric"]


def frozen_part(settings: Params) -> Frozen:
    """The prefix of the configured network."""
    made = assembly.assemble(settings.model, settings.images, settings.features.seed)
    fabric = device.start(settings.device, alone=True)
    dtype = getattr(torch, settings.features.dtype)
    return Frozen(
        made.parts, made.preprocess, fabric, settings.features.precision, dtype,
        settings.device.compile,
    )  # fmt: skip


def describe(settings: Params, part: Frozen, examples: Examples) -> Index:
    """What will be stored, or why nothing will be."""
    index = Index(
        stored=True, why="", seed=settings.features.seed, augment=settings.images.augment,
        views=settings.features.views,
        dtype=settings.features.dtype, precision=part.precision, prefix=part.digest(),
        images=examples.digest(),
        shapes=[list(shape) for shape in part.shapes()],
    )  # fmt: skip
    size = index.gigabytes(len(examples.ids), len(examples.rows("train")))
    why = f"{size:.3g} GB of activations"
    if part.cut.prefix is None:
        return index.model_copy(update={"stored": False, "why": "nothing is frozen"})
    if size > settings.features.max_gigabytes:
        why += f", past features.max_gigabytes={settings.features.max_gigabytes:g}"
        return index.model_copy(update={"stored": False, "why": why})
    return index.model_copy(update={"why": why})


def compute(
    batch: pa.RecordBatch, part: Frozen, chosen: Images, view: int, seed: int
) -> pa.RecordBatch:
    """One view's activations for rows of a clean shard: columns id, tensor_0, tensor_1, ..."""
    ids = batch.column("id").to_pylist()
    seen = views.Views(ids, _Column(batch.column("bytes")), part.preprocess, chosen, view, seed)
    (tensors,) = part.activations(seen, [range(len(ids))])
    arrays: dict[str, pa.Array] = {"id": pa.array(ids)}
    for number, values in enumerate(tensors):
        flat = values.to(part.dtype).flatten(1).cpu().numpy()
        arrays[f"tensor_{number}"] = pa.FixedSizeListArray.from_arrays(
            pa.array(flat.ravel()), flat.shape[1]
        )
    return pa.RecordBatch.from_pydict(arrays)


class _Column(Sequence[bytes]):
    """An Arrow column of images, each copied out when it is asked for."""

    def __init__(self, column: pa.Array) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self.column[index].as_py()


def store(
    directory: Path, clean: Path, part: Frozen, chosen: Images, index: Index,
    rows: Mapping[str, int], view: int,
) -> None:  # fmt: skip
    """Compute what the memo lacks of one view, and write its arrays.

    Args:
        rows: The ids to compute, and the row of each in the arrays.
    """
    values: type = np.dtype(index.dtype).type
    arrays = [
        np.lib.format.open_memmap(
            batches.array_path(directory, view, tensor), "w+", values, (len(rows), *shape)
        )
        for tensor, shape in enumerate(index.shapes)
    ]
    computed = mapping.map_images(
        partial(compute, part=part, chosen=chosen, view=view, seed=index.seed), clean,
        schema=_schema(index), memo=_memo(part, chosen, index, view),
        title=f"features, view {view}", only=rows, jobs=1,
    )  # fmt: skip
    for batch, results in computed:
        places = [rows[key] for key in batch.column("id").to_pylist()]
        for tensor, array in enumerate(arrays):
            flat = results.column(f"tensor_{tensor}").flatten().to_numpy()
            array[places] = flat.reshape(len(places), *array.shape[1:])
    for array in arrays:
        array.flush()


def store_all(
    directory: Path, clean: Path, part: Frozen, chosen: Images, index: Index, examples: Examples
) -> None:
    """The evaluation view of all images, and the augmented views of those that train."""
    everyone = {key: row for row, key in enumerate(examples.ids)}
    training = {examples.ids[row]: place for place, row in enumerate(examples.rows("train"))}
    for view in range(index.views + 1):
        store(directory, clean, part, chosen, index, training if view else everyone, view)


def _schema(index: Index) -> pa.Schema:
    value = pa.from_numpy_dtype(index.dtype)
    tensors = [
        (f"tensor_{number}", pa.list_(value, int(np.prod(shape))))
        for number, shape in enumerate(index.shapes)
    ]
    return pa.schema([("id", pa.string()), *tensors])


def _memo(part: Frozen, chosen: Images, index: Index, view: int) -> memo.Memo:
    """The evaluation view's does not depend on how the others are augmented."""
    augmentation = chosen.model_dump() | {"seed": index.seed}
    values = {
        "prefix": index.prefix, "preprocess": part.preprocess.model_dump(), "dtype": index.dtype,
        "augmentation": augmentation if view else {},
        "device": part.device.type, "precision": part.precision, "compiled": part.compiled,
        "gpu": torch.cuda.get_device_name() if part.device.type == "cuda" else "",
    }  # fmt: skip
    modules = [images, views, feed, frozen, cut, sys.modules[compute.__module__]]
    key = memo.fingerprint(values, modules, LIBRARIES)
    return memo.Memo("features", key, f"view_{view}")


def main(clean: Path, split_csv: Path, features: Path) -> None:
    """Run the frozen part over the images of CLEAN that SPLIT_CSV names, into FEATURES."""
    settings = params.load()
    examples = batches.read_examples(split_csv)
    part = frozen_part(settings)
    with device.memory("lower images.size"), atomic.replacing(features) as staged:
        index = describe(settings, part, examples)
        staged.mkdir()
        batches.write_index(staged, index)
        if index.stored:
            store_all(staged, clean, part, settings.images, index, examples)
    print(f"features: {'stored' if index.stored else 'nothing stored'}, {index.why}")


if __name__ == "__main__":
    stage.run(main)
