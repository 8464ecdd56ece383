"""The images of split.csv: ids, splits, digests of their bytes, and labels as a tensor."""

import hashlib
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.core import columns, shards
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import read_split
from pipeline.network import model_folder


@dataclass(frozen=True)
class Examples:
    """The rows of split.csv, sorted by id as there."""

    ids: list[str]
    labels: Tensor
    """(N,) int64: positions in `classes`."""
    splits: list[str]
    classes: list[str]
    stored: list[str]
    """Digests of the bytes in the clean shards."""

    @cached_property
    def keys(self) -> list[str]:
        """The keys of the images in a memo."""
        return list(map(shards.content_key, self.ids, self.stored))

    def rows(self, split: str) -> list[int]:
        return [row for row, name in enumerate(self.splits) if name == split]

    def digest(self) -> str:
        """Of all that the features follow, in their order: ids, splits and bytes."""
        digest = hashlib.sha256()
        separator = ""
        for facts in zip(self.ids, self.splits, self.stored, strict=True):
            digest.update(f"{separator}{' '.join(facts)}".encode())
            separator = "\n"
        return digest.hexdigest()


def read_examples(split_csv: Path, clean: Path) -> Examples:
    """The examples of split.csv; the network's outputs are its classes, sorted by name.

    Raises:
        PipelineError: an image is not in the shards of `clean`.
    """
    rows = read_split(split_csv)
    codes, names = columns.encode_sorted(rows.column("label"))
    classes = model_folder.classes_of(names)
    splits = list(map(sys.intern, columns.iterate(rows.column("split"))))
    ids = rows.column("id")
    labels = torch.from_numpy(codes.astype(np.int64))
    return Examples(list(columns.iterate(ids)), labels, splits, classes, _stored(clean, ids))


def _stored(clean: Path, ids: pa.ChunkedArray) -> list[str]:
    table = shards.columns(clean, ["id", shards.STORED])
    places = columns.positions(ids, table.column("id"))
    missing = np.flatnonzero(places < 0)
    if len(missing):
        raise PipelineError(
            f"{clean} lacks the image {ids[int(missing[0])].as_py()!r}, which data/split.csv "
            "lists: run `dvc repro`"
        )
    return list(columns.iterate(table.column(shards.STORED).take(shards.array(places))))
