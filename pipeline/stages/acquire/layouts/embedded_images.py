"""Images inside Parquet files, as Hugging Face stores data sets."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa

from pipeline.core import columns
from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.params import AcquireParams
from pipeline.stages.acquire.dataset_toml import ExternalDataset
from pipeline.stages.acquire.layouts.labels import AmbiguousLayoutError, Reading
from pipeline.stages.acquire.layouts.parquet_file import ParquetFile
from pipeline.stages.acquire.layouts.table_columns import (
    find_label_column,
    find_options,
    require_column,
)
from pipeline.stages.acquire.layouts.table_labels import split_of_name, to_splits
from pipeline.stages.acquire.layouts.tables import find_table_files
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources.listing import FileTable

FACTS = ("group", "owner", "licence", "title")


@dataclass(frozen=True)
class ImageTable:
    """A Parquet file with images and their labels."""

    table: ParquetFile
    image: str
    """The column of the images."""
    label: str
    split: str | None
    """That the file is named after."""


class EmbeddedImages:
    """The images of Parquet files."""

    def __init__(
        self, tables: Sequence[ImageTable], dataset: ExternalDataset, params: AcquireParams
    ) -> None:
        self._tables = tables
        self._dataset = dataset
        self._max_bytes = params.max_file_megabytes * 1e6
        first = tables[0]
        self.origin = (
            f"the column {first.label!r} of {first.table.name} (images in {first.image!r})"
        )

    notes: tuple[str, ...] = ()

    def classes(self) -> set[str]:
        """All labels."""
        return {label for label, _ in self.count() if label}

    def count(self) -> Counter[tuple[str, str | None]]:
        """Images by label and split."""
        counts: Counter[tuple[str, str | None]] = Counter()
        for table in self._tables:
            options = find_options(table.table.columns)
            names = [table.label, *([options["split"]] if "split" in options else [])]
            rows = table.table.read(names)
            labels = columns.iterate(rows.column(0))
            if len(names) == 1:
                counts.update((label.strip(), table.split) for label in labels)
            else:
                splits = to_splits(rows.column(1), self._dataset.splits, table.table.name, names[1])
                pairs = zip(labels, columns.iterate(splits), strict=True)
                counts.update((label.strip(), split or None) for label, split in pairs)
        return Counter({key: count for key, count in counts.items() if key[0]})

    def names(self) -> Iterator[str]:
        """The names of the images."""
        for table in self._tables:
            yield from (_name(table, row, "") for row in range(table.table.rows))

    def left_out(self) -> Counter[str]:
        """Nothing that is known before images are read."""
        return Counter()

    def files(self) -> Iterator[tuple[Path, str]]:
        """The Parquet files."""
        return ((table.table.path, table.table.name) for table in self._tables)

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
        for batch in table.table.read_images(table.image, [table.label, *facts.values()]):
            values = {fact: batch.column(3 + number) for number, fact in enumerate(facts)}
            if "split" in values:
                values["split"] = to_splits(
                    values["split"], self._dataset.splits, table.table.name, facts["split"]
                )
            for number in range(len(batch)):
                name = _name(table, row, batch.column(1)[number].as_py())
                label = batch.column(2)[number].as_py().strip()
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


def find_embedded(
    files: FileTable, dataset: ExternalDataset, root: Path, params: AcquireParams
) -> EmbeddedImages | None:
    """The images in the Parquet files of a folder; None if it has no such files.

    Raises:
        PipelineError: a file is damaged, or its columns are unclear.
    """
    if dataset.pattern or not root.is_dir():
        return None
    tables = []
    for file in find_table_files(files, dataset, str(root)):
        if not file.name.lower().endswith(".parquet"):
            continue
        table = ParquetFile(file.name, file.path(root))
        if table.image_columns:
            tables.append(_describe(table, dataset, str(root)))
    return EmbeddedImages(tables, dataset, params) if tables else None


def _describe(table: ParquetFile, dataset: ExternalDataset, where: str) -> ImageTable:
    images = sorted(table.image_columns)
    if dataset.file_column:
        image = require_column(table, dataset.file_column, "file_column")
        if image not in images:
            raise PipelineError(
                f"{where}: the column {image!r} of {table.name} has no images, but "
                f"{', '.join(images)} has"
            )
    elif len(images) > 1:
        first, second = images[:2]
        raise AmbiguousLayoutError(
            where,
            f"two columns of {table.name} have images",
            (
                Reading("file_column", first, "those of the first"),
                Reading("file_column", second, "those of the second"),
            ),
        )
    else:
        (image,) = images
    label = find_label_column(table, dataset.label_column, where) or _only_other(table, image)
    if label is None:
        raise PipelineError(
            f"{where}: no column of {table.name} is known for labels (it has "
            f"{', '.join(table.columns[:20])}): say which has them with label_column"
        )
    return ImageTable(table, image, label, split_of_name(table.name, dataset.splits))


def _only_other(table: ParquetFile, image: str) -> str | None:
    known = {image, *find_options(table.columns).values()}
    others = [name for name in table.columns if name not in known]
    return others[0] if len(others) == 1 else None


def _name(table: ImageTable, row: int, path: str) -> str:
    """The name of an image: its table, its row, and what it was called there."""
    stem = table.table.name.removesuffix(".parquet")
    last = PurePosixPath(path.replace("\\", "/")).name
    return f"{stem}/{row:06d}{f'-{last}' if last else ''}"
