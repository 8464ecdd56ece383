"""A Parquet file with images in it, and where their labels are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import columns
from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.layouts.captions import describe_captions
from pipeline.stages.acquire.layouts.missing_labels import blank_missing, describe_missing
from pipeline.stages.acquire.layouts.one_hot import name_ones
from pipeline.stages.acquire.layouts.parquet_file import ParquetFile

Rows = npt.NDArray[np.int64]
EXAMPLES = 3


@dataclass(frozen=True)
class ImageTable:
    """A Parquet file with images and their labels."""

    table: ParquetFile
    image: str
    """The column of the images."""
    labels: Sequence[str]
    """The column of the labels; or several, a class each, one of which has a 1 in each row."""
    split: str | None
    """That the file is named after."""

    @property
    def origin(self) -> str:
        """Where the labels come from, for people."""
        if len(self.labels) == 1:
            labels = f"the column {self.labels[0]!r} of {self.table.name}"
        else:
            classes = ", ".join(self.labels[:EXAMPLES])
            labels = f"the columns {classes}... of {self.table.name}, one of which is 1 in each row"
        return f"{labels} (images in {self.image!r})"

    def describe_missing(self) -> list[str]:
        """Say how many labels are missing, as texts.

        Raises:
            PipelineError: the file is damaged.
        """
        if len(self.labels) > 1:
            return []
        cells = self.table.read(self.labels).column(0)
        return describe_missing(cells, self.labels[0], self.table.name)

    def read_labels(self) -> pa.ChunkedArray:
        """The label of each row, "" where there is none.

        Raises:
            PipelineError: the file is damaged.
        """
        rows = self.table.read(self.labels)
        return pa.chunked_array(map(self._labels_of, rows.to_batches()), pa.string())

    def read_images(self, others: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the columns `bytes`, `path` and `label`, then `others`.

        Raises:
            PipelineError: the file is damaged.
        """
        for batch in self.table.read_images(self.image, [*self.labels, *others]):
            end = 2 + len(self.labels)
            labels = self._labels_of(batch.select(range(2, end)))
            arrays = [batch.column(0), batch.column(1), labels, *batch.columns[end:]]
            yield pa.RecordBatch.from_arrays(arrays, ["bytes", "path", "label", *others])

    def find_missing(self) -> Rows:
        """The rows without the bytes of an image."""
        return self.table.null_rows(self.image)

    def find_unlabelled(self) -> Rows:
        """The rows without a label."""
        return np.flatnonzero(columns.mask(pc.equal(self.read_labels(), "")))

    def name_of(self, row: int, path: str = "") -> str:
        """The name of an image: its table, its row, and what it was called there."""
        stem = self.table.name.removesuffix(".parquet")
        last = PurePosixPath(path.replace("\\", "/")).name
        return f"{stem}/{row:06d}{f'-{last}' if last else ''}"

    def _labels_of(self, rows: pa.RecordBatch) -> pa.Array:
        if len(self.labels) > 1:
            return name_ones(rows)
        return blank_missing(pc.utf8_trim_whitespace(rows.column(0)))


def check_repeated(tables: Sequence[ImageTable], where: str) -> None:
    """Refuse captions in the place of labels; what Hugging Face's metadata names are classes.

    Raises:
        PipelineError: the labels hardly repeat, or a file is damaged.
    """
    first = tables[0]
    if len(first.labels) > 1 or first.labels[0] in first.table.class_names:
        return
    labels = [chunk for table in tables for chunk in table.read_labels().chunks]
    if problem := describe_captions(pa.chunked_array(labels, pa.string()), first.origin):
        raise PipelineError(f"{where}: {problem}")
