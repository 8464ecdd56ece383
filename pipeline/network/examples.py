"""The images of split.csv: ids, splits, digests of their bytes, and labels as a tensor."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from pipeline.core import shards
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
        rows = zip(self.ids, self.splits, self.stored, strict=True)
        return hashlib.sha256("\n".join(map(" ".join, rows)).encode()).hexdigest()


def read_examples(split_csv: Path, clean: Path) -> Examples:
    """The examples of split.csv; the network's outputs are its classes, sorted by name.

    Raises:
        PipelineError: an image is not in the shards of `clean`.
    """
    rows = read_split(split_csv)
    classes = model_folder.classes_of([row.label for row in rows])
    number = {label: position for position, label in enumerate(classes)}
    labels = torch.tensor([number[row.label] for row in rows])
    ids = [row.id for row in rows]
    return Examples(ids, labels, [row.split for row in rows], classes, _stored(clean, ids))


def _stored(clean: Path, ids: list[str]) -> list[str]:
    table = shards.columns(clean, ["id", shards.STORED])
    stored = dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
    try:
        return [stored[key] for key in ids]
    except KeyError as error:
        raise PipelineError(
            f"{clean} lacks the image {error}, which data/split.csv lists: run `dvc repro`"
        ) from error
