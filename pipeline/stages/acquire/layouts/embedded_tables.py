"""Which Parquet files have images, and in which columns their labels are."""

from collections.abc import Sequence

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import ExternalDataset, check_unused
from pipeline.params import AcquireParams
from pipeline.stages.acquire.layouts import one_hot
from pipeline.stages.acquire.layouts.embedded_images import EmbeddedImages
from pipeline.stages.acquire.layouts.folder_labels import read_folders
from pipeline.stages.acquire.layouts.image_columns import find_image_columns
from pipeline.stages.acquire.layouts.image_table import ImageTable, check_repeated
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
from pipeline.stages.acquire.layouts.table_labels import split_of_name
from pipeline.stages.acquire.layouts.tables import find_table_files, open_parquet
from pipeline.stages.acquire.sources.listing import FileTable

MIN_SHARE = 0.1  # images in class folders beside a Parquet file, of its rows


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
