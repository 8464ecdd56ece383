"""The images of split.csv: ids, splits, and labels as a tensor."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

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

    def rows(self, split: str) -> list[int]:
        return [row for row, name in enumerate(self.splits) if name == split]

    def digest(self) -> str:
        """Of the ids and their splits, which the rows of the features follow."""
        lines = "\n".join(map(" ".join, zip(self.ids, self.splits, strict=True)))
        return hashlib.sha256(lines.encode()).hexdigest()


def read_examples(split_csv: Path) -> Examples:
    """The examples of split.csv; the network's outputs are its classes, sorted by name."""
    rows = read_split(split_csv)
    classes = model_folder.classes_of([row.label for row in rows])
    number = {label: position for position, label in enumerate(classes)}
    labels = torch.tensor([number[row.label] for row in rows])
    return Examples([row.id for row in rows], labels, [row.split for row in rows], classes)
