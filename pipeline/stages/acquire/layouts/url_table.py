"""Tables with the URL of a photograph in each row, whatever their columns are called."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
from pydantic import ValidationError

from pipeline.core import columns
from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import ExternalDataset, UrlsDataset
from pipeline.stages.acquire.layouts.table_columns import (
    URLS,
    find_column,
    find_label_column,
    find_options,
    without_fractions,
)
from pipeline.stages.acquire.layouts.table_files import (
    TableFile,
    is_utf16,
    open_header,
    open_table,
    read_columns,
)
from pipeline.stages.acquire.layouts.table_labels import to_splits
from pipeline.stages.acquire.photo_list import COLUMNS, Photo, read_photos


def has_urls(path: Path, encoding: str | None = None) -> bool:
    """Whether a table has a column of URLs.

    Raises:
        PipelineError: it is damaged.
    """
    return find_column(read_columns(path, encoding), URLS) is not None


def read_url_table(path: Path, dataset: ExternalDataset) -> Iterator[Photo]:
    """Yield the photographs of a table one at a time.

    A CSV file with no other columns than those of `photo_list` is read by its rules.

    Raises:
        PipelineError: the table is damaged, has no URLs or labels, or a row is invalid.
    """
    is_named = dataset.label_column or dataset.encoding or dataset.own_splits
    is_csv = path.suffix.lower() == ".csv" and not is_named
    is_own = is_csv and not (path.exists() and is_utf16(path))
    if is_own and (not path.exists() or _is_photo_list(path)):
        yield from read_photos(path)
        return
    table = open_table(path, str(path), dataset.encoding)
    fields = _find_fields(table, dataset)
    rows = table.read(list(dict.fromkeys(fields.values())))
    cells = {field: rows.column(column) for field, column in fields.items()}
    cells["label"] = without_fractions(pc.utf8_trim_whitespace(cells["label"]))
    if isinstance(dataset, UrlsDataset) and dataset.own_splits and "split" not in cells:
        raise PipelineError(
            f"{path} has no column of splits, so splits in dataset.toml has no effect: leave it out"
        )
    if "split" in cells:
        cells["split"] = to_splits(cells["split"], dataset.splits, str(path), fields["split"])
    for number, values in enumerate(zip(*map(columns.iterate, cells.values()), strict=True), 1):
        facts = {field: text.strip() for field, text in zip(cells, values, strict=True)}
        yield _parse_photo(path, number, {field: text for field, text in facts.items() if text})


def _is_photo_list(path: Path) -> bool:
    """Whether a CSV file has the form of a `photo_list`: its columns alone, and commas."""
    header = open_header(path)
    return header.is_plain and set(header.columns) <= set(COLUMNS)


def _find_fields(table: TableFile, dataset: ExternalDataset) -> dict[str, str]:
    """Field of Photo -> column."""
    url = find_column(table.columns, URLS)
    label = find_label_column(table, dataset.label_column, table.name)
    if url is None or label is None:
        raise PipelineError(
            f"{table.name} lacks a column of {'labels' if url else 'URLs'} by a common name: it "
            f"has {', '.join(table.columns[:20])}{'; say which with label_column' if url else ''}"
        )
    names = {"url": url, "label": label} | find_options(table.columns)
    if (number := find_column(table.columns, ("id", "imageid", "photoid"))) is not None:
        names.setdefault("id", number)
    return names


def _parse_photo(path: Path, row: int, facts: dict[str, str]) -> Photo:
    try:
        return Photo.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        problem = " is missing" if first["type"] == "missing" else f": {first['msg']}"
        raise PipelineError(f"{path}, row {row}: {first['loc'][0]}{problem}") from error
