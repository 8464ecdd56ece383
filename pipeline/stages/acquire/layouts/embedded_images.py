"""Images inside Parquet files, as Hugging Face stores data sets."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.core import columns
from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.datasets.dataset_toml import ExternalDataset, check_unused
from pipeline.params import AcquireParams
from pipeline.stages.acquire.layouts import one_hot
from pipeline.stages.acquire.layouts.folder_labels import read_folders
from pipeline.stages.acquire.layouts.image_columns import find_image_columns
from pipeline.stages.acquire.layouts.image_table import ImageTable, Rows, check_repeated
from pipeline.stages.acquire.layouts.labels import (
    AmbiguousLayoutError,
    FileFacts,
    Reading,
    UnclearLayoutError,
    sample,
)
from pipeline.stages.acquire.layouts.parquet_file import ParquetFile
from pipeline.stages.acquire.layouts.table_columns import (
    find_label_column,
    find_options,
    require_column,
)
from pipeline.stages.acquire.layouts.table_labels import split_of_name, to_splits
from pipeline.stages.acquire.layouts.tables import find_table_files, open_parquet
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources.listing import FileTable

FACTS = ("group", "owner", "licence", "title")
ROUNDING = 1  # rows, for small sets
MIN_SHARE = 0.1  # images in class folders beside a Parquet file, of its rows


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
        self.notes = tuple(note for table in tables for note in table.describe_missing())

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


def find_embedded(
    files: FileTable, dataset: ExternalDataset, where: str, params: AcquireParams
) -> EmbeddedImages | None:
    """The images in the Parquet files of a folder or archive; None if it has no such files.

    Raises:
        PipelineError: one of several such files is damaged, or their columns are unclear.
        AmbiguousLayoutError: class folders beside them have images too.
    """
    if dataset.pattern:
        return None
    tables, others, error = _open_image_tables(files, dataset, where)
    if not tables:
        return None  # a damaged file may be none of images
    if error:
        raise error
    is_named = bool(dataset.table or dataset.label_column or dataset.file_column)
    if not is_named and _has_class_folders(tables, files, dataset, where):
        return None
    described = [_describe(table, dataset, where) for table in tables]
    _check_all_have_bytes(described, others, where)
    if not files.uses_encoding:
        check_unused(dataset, ("encoding",), where, "the labels are in Parquet files")
    _share_class_names(described, where)
    if not dataset.label_column:
        check_repeated(described, where)
    return EmbeddedImages(described, dataset, params)


def _open_image_tables(
    files: FileTable, dataset: ExternalDataset, where: str
) -> tuple[list[ParquetFile], list[ParquetFile], PipelineError | None]:
    """The Parquet files with images, others, and the error of the first that cannot be read."""
    tables: list[ParquetFile] = []
    others: list[ParquetFile] = []
    first_error = None
    for file in find_table_files(files, dataset, where):
        if file.name.lower().endswith(".parquet"):
            try:
                table = open_parquet(files, file)
                has_images = dataset.file_column in table.blob_columns or find_image_columns(table)
                (tables if has_images else others).append(table)
            except PipelineError as error:
                first_error = first_error or error
    return tables, others, first_error


def _check_all_have_bytes(
    tables: Sequence[ImageTable], others: Sequence[ParquetFile], where: str
) -> None:
    """Refuse files of the same columns of which some have images, and others only their paths.

    Raises:
        PipelineError: there are such.
    """
    for first in tables:
        for other in others:
            if any(column.partition(".")[0] == first.image for column in other.columns):
                raise PipelineError(
                    f"{where}: {first.table.name} has images in its column {first.image!r}, but "
                    f"{other.name} has no bytes there: write them into it, or name the files to "
                    "read with table"
                )


def _has_class_folders(
    tables: Sequence[ParquetFile], files: FileTable, dataset: ExternalDataset, where: str
) -> bool:
    """Whether the images are those in class folders, and the Parquet files have no labels.

    Raises:
        AmbiguousLayoutError: both have labels, and nearly as many images.
    """
    try:
        folders = read_folders(files, dataset.splits, where)
    except UnclearLayoutError:
        raise
    except PipelineError:
        return False
    if len(folders.classes()) < 2:
        return False
    first = tables[0]
    if find_label_column(first, None, where) is None:
        return True
    count = sum(isinstance(facts, FileFacts) for facts in folders.facts(files))
    if count < MIN_SHARE * sum(table.rows for table in tables):
        return False
    raise AmbiguousLayoutError(
        where,
        "both its folders and its Parquet files have images with labels",
        (
            Reading("pattern", "{label}/*", f"the folders {sample(folders.classes())}"),
            Reading("table", _pattern_of(tables), f"the images in {first.name}"),
        ),
    )


def _pattern_of(tables: Sequence[ParquetFile]) -> str:
    return tables[0].name if len(tables) == 1 else "*.parquet"


def _describe(table: ParquetFile, dataset: ExternalDataset, where: str) -> ImageTable:
    images = find_image_columns(table)
    if dataset.file_column:
        image = require_column(table, dataset.file_column, "file_column")
        if image not in table.blob_columns:
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
    labels = [label] if label else one_hot.find_classes(table, image)
    if not labels:
        raise PipelineError(
            f"{where}: no column of {table.name} is known for labels (it has "
            f"{', '.join(table.columns[:20])}): say which has them with label_column"
        )
    return ImageTable(table, image, labels, split_of_name(table.name, dataset.splits))


def _share_class_names(tables: Sequence[ImageTable], where: str) -> None:
    """Give files of numbers the class names that the others of the data set have.

    Raises:
        PipelineError: some have numbers and others texts, and nothing says which is which.
    """
    labels = [(table.table, table.labels[0]) for table in tables if len(table.labels) == 1]
    numbers = [(table, label) for table, label in labels if table.has_numbers(label)]
    others = [(table, label) for table, label in labels if not table.has_numbers(label)]
    if not numbers or not others:
        return
    first = others[0][0].class_names.get(others[0][1])
    if first is None or any(table.class_names.get(label) != first for table, label in others):
        raise PipelineError(
            f"{where}: the labels of {numbers[0][0].name} are numbers, and those of "
            f"{others[0][0].name} texts: name the files to read with table, or write the same "
            "labels into all of them"
        )
    for table, label in numbers:
        table.class_names[label] = first


def _only_other(table: ParquetFile, image: str) -> str | None:
    fact_columns = {image, *table.blob_columns, *find_options(table.columns).values()}
    others = [name for name in table.columns if name not in fact_columns]
    return others[0] if len(others) == 1 else None
