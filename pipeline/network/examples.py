"""The images of split.csv in columns: ids, splits, digests of their bytes, and labels."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.core import columns, shards
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import read_split
from pipeline.network import model_folder
from pipeline.network.feature_arrays import Rows

MAX_IMAGES = 2**31 // 64 - 1  # an Arrow array has up to 2 GiB of texts, and an id 64 characters


@dataclass(frozen=True)
class Examples:
    """The rows of split.csv, sorted by id as there."""

    ids: pa.StringArray
    labels: Tensor
    """(N,) int64: positions in `classes`."""
    splits: pa.StringArray
    classes: list[str]
    stored: pa.StringArray
    """Digests of the bytes in the clean shards."""

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        labels: Tensor,
        splits: Sequence[str],
        classes: list[str],
        stored: Sequence[str],
    ) -> "Examples":
        """Examples whose columns are sequences of texts."""
        ids_, splits_, stored_ = map(columns.texts, (ids, splits, stored))
        return cls(ids_, labels, splits_, classes, stored_)

    @property
    def has_ids(self) -> bool:
        """Whether ids and digests are known: not in all processes that train together."""
        return not self.ids.null_count

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, split: str) -> Rows:
        """The rows of a split, ascending."""
        is_member = columns.positions(self.splits, columns.texts([split])) == 0
        return np.flatnonzero(is_member).astype(np.int64, copy=False)

    def ids_of(self, rows: Rows) -> list[str]:
        """The ids of some rows."""
        ids: list[str] = self.ids.take(shards.array(rows)).to_pylist()
        return ids

    def keys_of(self, rows: Rows) -> pa.StringArray:
        """The keys of some rows in a memo."""
        places = shards.array(rows)
        return shards.join_keys(self.ids.take(places), self.stored.take(places))

    def facts(self) -> Iterator[tuple[str, int, str]]:
        """The key, label and split of each row, in constant memory."""
        for start in range(0, len(self), columns.CHUNK):
            rows = np.arange(start, min(start + columns.CHUNK, len(self)))
            splits = self.splits.slice(start, columns.CHUNK).to_pylist()
            labels = self.labels[rows].tolist()
            yield from zip(self.keys_of(rows).to_pylist(), labels, splits, strict=True)

    def digest(self) -> str:
        """Of all that the features follow, in their order: ids, splits and bytes."""
        cells = map(columns.iterate, (self.ids, self.splits, self.stored))
        return digest_lines(" ".join(row) for row in zip(*cells, strict=True))


def digest_lines(lines: Iterator[str]) -> str:
    """sha256 of lines joined by line feeds, in hex."""
    digest = hashlib.sha256()
    separator = ""
    for line in lines:
        digest.update(f"{separator}{line}".encode())
        separator = "\n"
    return digest.hexdigest()


def read_examples(split_csv: Path, clean: Path) -> Examples:
    """The examples of split.csv; the network's outputs are its classes, sorted by name.

    Raises:
        PipelineError: an image is not in the shards of `clean`, or there are too many.
    """
    rows = read_split(split_csv)
    if len(rows) > MAX_IMAGES:
        raise PipelineError(
            f"{split_csv} has {len(rows):,} images, and features, train and evaluate can use "
            f"{MAX_IMAGES:,}: use a part of them"
        )
    codes, names = columns.encode_sorted(rows.labels)
    classes = model_folder.classes_of(names)
    labels = torch.from_numpy(codes.astype(np.int64))
    ids, splits = map(columns.contiguous, (rows.ids, rows.splits))
    stored = _stored(clean, ids)
    del rows
    columns.release_memory()
    return Examples(ids, labels, splits, classes, stored)


def _stored(clean: Path, ids: pa.StringArray) -> pa.StringArray:
    table = shards.columns(clean, ["id", shards.STORED])
    places = columns.positions(ids, table.column("id"))
    missing = np.flatnonzero(places < 0)
    if len(missing):
        raise PipelineError(
            f"{clean} lacks the image {ids[int(missing[0])].as_py()!r}, which data/split.csv "
            "lists: run `dvc repro`"
        )
    return columns.contiguous(table.column(shards.STORED).take(shards.array(places)))
