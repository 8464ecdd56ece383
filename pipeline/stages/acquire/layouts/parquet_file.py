"""Parquet files: columns of texts, and of images as Hugging Face stores them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.errors import PipelineError
from pipeline.core.terminal import one_line
from pipeline.stages.acquire.layouts.table_limits import MAX_CELL, MAX_COLUMNS

BATCH_BYTES = 64 * 2**20  # of images at a time
MAX_BATCH = 1000  # rows of images at a time
TEXT_ROWS = 4096
DAMAGE = (pa.ArrowException, OSError, ValueError)


class ParquetFile:
    """A Parquet file on disk."""

    def __init__(self, name: str, path: Path) -> None:
        """Open it and read its schema.

        Raises:
            PipelineError: it is damaged.
        """
        self.name = name
        self.path = path
        schema = self._open().schema_arrow
        if len(schema) > MAX_COLUMNS:
            raise PipelineError(f"{name} has more than {MAX_COLUMNS} columns")
        self.columns = tuple(dict.fromkeys(schema.names))
        self._types = {field.name: field.type for field in schema}
        self._class_names = _read_class_names(schema)
        self.image_columns = frozenset(field.name for field in schema if _is_image(field.type))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self._open().metadata.num_rows)

    def read(self, names: Sequence[str]) -> pa.Table:
        """These columns as texts; numbers of classes as the names in Hugging Face's metadata.

        Raises:
            PipelineError: the file is damaged, a column has no texts or numbers, or a cell is too
                large.
        """
        if nested := [name for name in names if pa.types.is_nested(self._types[name])]:
            raise PipelineError(
                f"{self.name}: the column {nested[0]!r} has neither texts nor numbers"
            )
        try:
            # As dictionaries, so that a text that is repeated a million times is read once.
            file = self._open(read_dictionary=list(names))
            batches = [
                pa.RecordBatch.from_arrays(
                    [self._to_texts(name, batch.column(name)) for name in names], list(names)
                )
                for batch in file.iter_batches(TEXT_ROWS, columns=list(names))
            ]
        except DAMAGE as error:
            raise self._damaged(error) from error
        return pa.Table.from_batches(batches, pa.schema([(name, pa.string()) for name in names]))

    def read_images(self, column: str, others: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the columns `bytes`, `path` and `others`, a bounded number of bytes at a time.

        Raises:
            PipelineError: the file is damaged.
        """
        try:
            file = self._open()
            for group in range(file.num_row_groups):
                size = self._chunk_bytes(file, group, column)
                rows = max(1, min(MAX_BATCH, BATCH_BYTES // max(size, 1)))
                batches = file.iter_batches(rows, [group], [column, *others])
                for batch in batches:
                    image = batch.column(column)
                    arrays = [_bytes_of(image), _paths_of(image)]
                    arrays += [self._to_texts(name, batch.column(name)) for name in others]
                    yield pa.RecordBatch.from_arrays(arrays, ["bytes", "path", *others])
        except DAMAGE as error:
            raise self._damaged(error) from error

    def _open(self, **options: Any) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.path, buffer_size=2**20, pre_buffer=False, **options)
        except DAMAGE as error:
            raise self._damaged(error) from error

    def _chunk_bytes(self, file: pq.ParquetFile, group: int, column: str) -> int:
        """The unpacked size of a column in a row group: no value can be larger."""
        row_group = file.metadata.row_group(group)
        chunks = map(row_group.column, range(row_group.num_columns))
        return sum(
            chunk.total_uncompressed_size
            for chunk in chunks
            if chunk.path_in_schema.split(".")[0] == column
        )

    def _to_texts(self, name: str, values: pa.Array) -> pa.Array:
        if pa.types.is_dictionary(values.type):
            longest = pc.max(pc.binary_length(values.dictionary)).as_py() or 0
            if longest > MAX_CELL:
                raise ValueError(f"a cell of the column {name!r} has {longest} bytes")
        if names := self._class_names.get(name):
            codes = values.to_pylist()
            return pa.array([_name_of(names, code) for code in codes], pa.string())
        try:
            return pc.fill_null(pc.cast(values, pa.string()), "")
        except pa.ArrowNotImplementedError as error:
            raise ValueError(f"the column {name!r} has neither texts nor numbers") from error

    def _damaged(self, error: Exception) -> PipelineError:
        return PipelineError(f"{self.name} is not a readable Parquet file ({one_line(error)})")


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        names = [kind.field(index).name for index in range(kind.num_fields)]
        return "bytes" in names and _is_binary(kind.field(names.index("bytes")).type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _bytes_of(image: pa.Array) -> pa.Array:
    values = pc.struct_field(image, "bytes") if pa.types.is_struct(image.type) else image
    return pc.cast(values, pa.large_binary())


def _paths_of(image: pa.Array) -> pa.Array:
    if pa.types.is_struct(image.type) and image.type.get_field_index("path") >= 0:
        return pc.fill_null(pc.cast(pc.struct_field(image, "path"), pa.string()), "")
    return pa.array([""] * len(image), pa.string())


def _read_class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of the classes of each column, where Hugging Face's metadata has them.

    Source: https://huggingface.co/docs/datasets, Features and ClassLabel
    """
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(text)["info"]["features"]
        return {
            name: list(map(str, feature["names"]))
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return {}  # another program's


def _name_of(names: Sequence[str], code: object) -> str:
    if isinstance(code, int) and 0 <= code < len(names):
        return names[code]
    return "" if code is None or code == -1 else str(code)
