"""Write the features of all images as arrays; what no memo has is computed first."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.core import shards
from pipeline.core.progress import Progress, bar
from pipeline.distributed.other_machines import gather
from pipeline.images.key_index import KeySet
from pipeline.images.memo import Memo
from pipeline.network import feature_store
from pipeline.network.examples import Examples
from pipeline.network.feature_arrays import Rows
from pipeline.network.feature_store import Index
from pipeline.network.views import EVALUATION
from pipeline.stages.features.compute import FeatureSettings, chunk_rows, fill, open_memos
from pipeline.stages.features.sharing import features_work, share

MAX_KEYS = 100_000  # looked up in a memo at a time


def _write(
    directory: Path,
    index: Index,
    view_memo: Memo,
    examples: Examples,
    number: int,
    progress: Progress,
) -> None:
    """Write the arrays of one view.

    They are written in order, and not memory-mapped: a full disk would kill the process.
    """
    rows, size = _rows_of(number, examples), chunk_rows(index, 1)
    with ExitStack() as stack:
        files: list[BinaryIO] = []
        for tensor, shape in enumerate(index.shapes):
            path = feature_store.array_path(directory, number, tensor)
            files.append(stack.enter_context(path.open("wb")))
            np.lib.format.write_array_header_1_0(
                files[-1],
                {
                    "descr": np.lib.format.dtype_to_descr(np.dtype(index.dtype)),
                    "fortran_order": False,
                    "shape": (len(rows), *shape),
                },
            )
        for start in range(0, len(rows), size):
            batch = view_memo.get(examples.keys_of(rows[start : start + size]))
            for tensor, file in enumerate(files):
                file.write(np.from_dlpack(batch.column(f"tensor_{tensor}").flatten()).tobytes())
            progress.update(len(batch))


def store(
    directory: Path,
    clean: Path,
    split_csv: Path,
    settings: FeatureSettings,
    examples: Examples,
    check: Callable[[int], None] = lambda _: None,
) -> None:
    """Write the evaluation view of all images, and the augmented views of those that train.

    Args:
        split_csv: What `examples` were read from.
        check: Called before the work, with the number of views that are not remembered.
    """
    memos = open_memos(settings)
    work = features_work(settings.prefix, memos, clean, split_csv)
    shared = gather(work, partial(share, memos, examples))
    missing = _missing(memos, examples)
    check(sum(len(numbers) * len(ids) for numbers, ids in missing.items()))
    for numbers, ids in missing.items():
        fill(settings, clean, {number: memos[number] for number in numbers}, ids)
    settings.prefix.close()
    shared.offer(shards.paths(clean))
    rows = sum(len(_rows_of(number, examples)) for number in memos)
    with bar("features: write", rows, "view") as progress:
        for number, view_memo in memos.items():
            _write(directory, settings.index, view_memo, examples, number, progress)


def _rows_of(number: int, examples: Examples) -> Rows:
    """The images that a view is computed of."""
    return np.arange(len(examples)) if number == EVALUATION else examples.rows("train")


def _missing(memos: Mapping[int, Memo], examples: Examples) -> dict[tuple[int, ...], KeySet]:
    """Ids of images by the numbers of the views that the memos do not have of them."""
    numbers = np.array(list(memos))
    lacks = np.zeros((len(examples), len(numbers)), bool)  # by image and view
    for column, number in enumerate(memos):
        rows = _rows_of(number, examples)
        for start in range(0, len(rows), MAX_KEYS):
            part = rows[start : start + MAX_KEYS]
            lacks[part, column] = memos[number].missing(examples.keys_of(part))
    patterns, pattern_of = np.unique(lacks, axis=0, return_inverse=True)
    return {
        tuple(numbers[pattern].tolist()): KeySet(
            examples.ids.take(shards.array(np.flatnonzero(pattern_of.reshape(-1) == position)))
        )
        for position, pattern in enumerate(patterns)
        if pattern.any()
    }
