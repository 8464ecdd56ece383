"""Images inside Parquet files, as Hugging Face stores data sets."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.core import columns
from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.datasets.dataset_toml import ExternalDataset
from pipeline.params import AcquireParams
from pipeline.stages.acquire.layouts.image_table import ImageTable, Rows
from pipeline.stages.acquire.layouts.missing_parts import describe_missing_parts
from pipeline.stages.acquire.layouts.table_columns import find_options
from pipeline.stages.acquire.layouts.table_labels import to_splits
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason

FACTS = ("group", "owner", "licence", "title")
ROUNDING = 1  # rows, for small sets


class EmbeddedImages:
    """The images of Parquet files."""

    def __init__(
        self, tables: Sequence[ImageTable], dataset: ExternalDataset, params: AcquireParams
    ) -> None:
        self._tables = tables
        self._dataset = dataset
        self._max_bytes = params.max_file_megabytes * 1e6
        self._missing: dict[str, Rows] = {}
        """Rows without bytes, by the name of the table."""
        self.origin = tables[0].origin
        missing = (note for table in tables for note in table.describe_missing())
        parts = describe_missing_parts([table.table.name for table in tables])
        self.notes = (*missing, *parts)

    def classes(self) -> set[str]:
        """All labels."""
        return {label for label, _ in self.count() if label}

    def count(self) -> Counter[tuple[str, str | None]]:
        """Images by label and split."""
        counts: Counter[tuple[str, str | None]] = Counter()
        for table in self._tables:
            counts.update(self._keys(table))
        return counts

    def _keys(self, table: ImageTable) -> Iterator[tuple[str, str | None]]:
        """The label and the split of each image."""
        used = pa.array(self._used_rows(table))
        labels = columns.iterate(table.read_labels().take(used))
        column = find_options(table.table.columns).get("split")
        if not column:
            return ((label, table.split) for label in labels)
        cells = table.table.read([column]).column(0).take(used)
        splits = to_splits(cells, self._dataset.splits, table.table.name, column)
        pairs = zip(labels, columns.iterate(splits), strict=True)
        return ((label, split or None) for label, split in pairs)

    def _used_rows(self, table: ImageTable) -> Rows:
        """The rows with a label and the bytes of an image."""
        left_out = np.union1d(self._missing_rows(table), table.find_unlabelled())
        return np.setdiff1d(np.arange(table.table.rows), left_out)

    def _missing_rows(self, table: ImageTable) -> Rows:
        name = table.table.name
        if name not in self._missing:
            self._missing[name] = table.find_missing()
        return self._missing[name]

    def names(self) -> Iterator[str]:
        """The names of the images."""
        for table in self._tables:
            yield from map(table.name_of, self._used_rows(table).tolist())

    def labelled_names(self) -> Iterator[tuple[str, tuple[str, str | None]]]:
        """The names of the images, each with its label and split."""
        for table in self._tables:
            names = map(table.name_of, self._used_rows(table).tolist())
            yield from zip(names, self._keys(table), strict=True)

    def left_out(self) -> Iterator[SkippedItem]:
        """Rows without the bytes of an image, or without a label."""
        for table in self._tables:
            missing = self._missing_rows(table)
            for row in missing.tolist():
                yield SkippedItem(table.name_of(row), SkipReason.MISSING)
            for row in np.setdiff1d(table.find_unlabelled(), missing).tolist():
                yield SkippedItem(table.name_of(row), SkipReason.UNLABELLED)

    def files(self) -> Iterator[tuple[Path, str]]:
        """The Parquet files, if they are on disk."""
        paths = ((table.table.path, table.table.name) for table in self._tables)
        return ((path, name) for path, name in paths if path is not None)

    def check_missing(self, max_fraction: float) -> None:
        """Refuse files in which too many rows have no bytes of an image.

        Raises:
            PipelineError: they have.
        """
        rows = sum(table.table.rows for table in self._tables)
        missing = sum(len(self._missing_rows(table)) for table in self._tables)
        if missing > max_fraction * rows + ROUNDING:
            first = self._tables[0]
            raise PipelineError(
                f"{missing} of {rows} rows have no bytes of an image in {first.image!r} of "
                f"{first.table.name}, past "
                f"acquire.max_missing_fraction={max_fraction:g}: write the images into it, or "
                "raise it"
            )

    def items(self) -> Iterator[RawImage | SkippedItem]:
        """Yield the images, in the order of the rows.

        Raises:
            PipelineError: a file is damaged.
        """
        total = sum(table.table.rows for table in self._tables)
        with bar("acquire", total) as progress:
            for table in self._tables:
                for item in self._images_of(table):
                    yield item
                    progress.update()

    def _images_of(self, table: ImageTable) -> Iterator[RawImage | SkippedItem]:
        options = find_options(table.table.columns)
        facts = {fact: options[fact] for fact in (*FACTS, "split") if fact in options}
        row = 0
        for batch in table.read_images(list(facts.values())):
            values = {fact: batch.column(3 + number) for number, fact in enumerate(facts)}
            if "split" in values:
                values["split"] = to_splits(
                    values["split"], self._dataset.splits, table.table.name, facts["split"]
                )
            for number in range(len(batch)):
                name = table.name_of(row, batch.column(1)[number].as_py())
                label = batch.column(2)[number].as_py()
                data = batch.column(0)[number]
                others = {fact: column[number].as_py() or None for fact, column in values.items()}
                yield self._image(name, label, data.as_buffer(), {"split": table.split} | others)
                row += 1

    def _image(
        self, name: str, label: str, data: pa.Buffer | None, facts: dict[str, str | None]
    ) -> RawImage | SkippedItem:
        if data is None:
            return SkippedItem(name, SkipReason.MISSING, label)
        if not label:
            return SkippedItem(name, SkipReason.UNLABELLED)
        if data.size > self._max_bytes:
            return SkippedItem(name, SkipReason.TOO_LARGE, label)
        facts["licence"] = facts.get("licence") or self._dataset.licence
        return RawImage(name, label, data.to_pybytes(), **facts)
