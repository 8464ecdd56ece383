"""Parquet files: columns of texts, and of images as Hugging Face stores them."""

import codecs
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.errors import PipelineError
from pipeline.core.terminal import one_line
from pipeline.stages.acquire.layouts.hugging_face import read_class_names, read_features
from pipeline.stages.acquire.layouts.table_limits import MAX_CELL, MAX_COLUMNS

BATCH_BYTES = 64 * 2**20  # of images at a time
MAX_BATCH = 1000  # rows of images at a time
TEXT_ROWS = 4096
START_ROWS = 8  # whose first bytes are looked at
START_BYTES = 32
NO_IMAGES = frozenset({"Audio", "Video", "Pdf"})  # of Hugging Face's features
DAMAGE = (pa.ArrowException, OSError, ValueError)


class ParquetFile:
    """A Parquet file, on disk or in an archive.

    The fields of a struct are columns: `image.path`. A struct of the bytes and the path of a file,
    as Hugging Face stores images, is one column, unless all its bytes are null.
    """

    def __init__(self, name: str, source: Path | Callable[[], bytes]) -> None:
        """Open it and read its schema.

        Args:
            source: Where it is on disk, or what reads it from an archive, again for every pass.

        Raises:
            PipelineError: it is damaged.
        """
        self.name = name
        self.path = source if isinstance(source, Path) else None
        self._source = source
        file = self._open()
        schema = file.schema_arrow
        self._top_level = frozenset(schema.names)
        self.rows = int(file.metadata.num_rows)
        """Number of rows."""
        features = read_features(schema)
        self.class_names = read_class_names(features)
        """Number of a class -> its name, of each column where Hugging Face's metadata has it."""
        self.blob_columns = frozenset(
            field.name
            for field in schema
            if _is_blob(field.type)
            and features.get(field.name, {}).get("_type") not in NO_IMAGES
            and self.starts(field.name)
        )
        """Columns with bytes, such as images."""
        self._types = dict(_leaves(schema, self.blob_columns))
        if len(self._types) > MAX_COLUMNS:
            raise PipelineError(f"{name} has more than {MAX_COLUMNS} columns")
        self.columns = tuple(self._types)
        self.has_header = True
        self.nested = frozenset(
            column
            for column, kind in self._types.items()
            if pa.types.is_nested(kind)
            or (column in self.blob_columns and not all(map(_is_text, self.starts(column))))
        )
        """Columns that cannot be read as texts."""

    def is_file(self, column: str) -> bool:
        """Whether a column has files as Hugging Face stores them: bytes with a path."""
        return bool(pa.types.is_struct(self._types[column]))

    def has_numbers(self, column: str) -> bool:
        """Whether the cells of a column are numbers that stand for nothing else."""
        is_number = bool(pa.types.is_integer(self._types[column]))
        return is_number and column not in self.class_names

    def starts(self, column: str) -> list[bytes]:
        """The first bytes of the first values of a column that are not null."""
        if self.count_nulls(column) == self.rows:
            return []
        for batch in self.read_images(column, [], START_ROWS):
            values = batch.column(0).drop_null()
            if len(values):
                return list(pc.binary_slice(values, 0, START_BYTES).to_pylist())
        return []

    def count_nulls(self, column: str) -> int:
        """How many rows have no bytes, as far as the file's statistics tell."""
        return sum(count or 0 for count in self._null_counts(column))

    def null_rows(self, column: str) -> npt.NDArray[np.int64]:
        """The rows without bytes; where statistics do not exclude any, all are read.

        Raises:
            PipelineError: the file is damaged.
        """
        if all(count == 0 for count in self._null_counts(column)):
            return np.zeros(0, np.int64)
        masks = [batch.column(0).is_null() for batch in self.read_images(column, [])]
        return np.flatnonzero(pa.chunked_array(masks, pa.bool_()).to_numpy())

    def _null_counts(self, column: str) -> list[int | None]:
        """Of each row group; None where the statistics lack it."""
        file = self._open()
        known = [
            chunk.statistics
            for group in range(file.num_row_groups)
            for chunk in self._chunks(file, group, column)
            if chunk.path_in_schema in {column, f"{column}.bytes"}
        ]
        return [facts.null_count if facts and facts.has_null_count else None for facts in known]

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
            file = self._open(read_dictionary=[name for name in names if name in self._top_level])
            batches = [
                pa.RecordBatch.from_arrays(
                    [self._to_texts(name, _leaf(batch, name)) for name in names], list(names)
                )
                for batch in file.iter_batches(TEXT_ROWS, columns=list(names))
            ]
        except DAMAGE as error:
            raise self._damaged(error) from error
        return pa.Table.from_batches(batches, pa.schema([(name, pa.string()) for name in names]))

    def read_images(
        self, column: str, others: Sequence[str], max_rows: int = MAX_BATCH
    ) -> Iterator[pa.RecordBatch]:
        """Yield the columns `bytes`, `path` and `others`, a bounded number of bytes at a time.

        Raises:
            PipelineError: the file is damaged.
        """
        try:
            file = self._open()
            for group in range(file.num_row_groups):
                # No value can be larger than all of them unpacked.
                chunks = self._chunks(file, group, column)
                size = sum(chunk.total_uncompressed_size for chunk in chunks)
                rows = max(1, min(max_rows, BATCH_BYTES // max(size, 1)))
                batches = file.iter_batches(rows, [group], [column, *others])
                for batch in batches:
                    image = batch.column(column)
                    arrays = [_bytes_of(image), _paths_of(image)]
                    arrays += [self._to_texts(name, _leaf(batch, name)) for name in others]
                    yield pa.RecordBatch.from_arrays(arrays, ["bytes", "path", *others])
        except DAMAGE as error:
            raise self._damaged(error) from error

    def _open(self, **options: Any) -> pq.ParquetFile:
        try:
            source = self.path or pa.BufferReader(self._source())  # type: ignore[operator]
            return pq.ParquetFile(source, buffer_size=2**20, pre_buffer=False, **options)
        except DAMAGE as error:
            raise self._damaged(error) from error

    @staticmethod
    def _chunks(file: pq.ParquetFile, group: int, column: str) -> list[Any]:
        """Of a column in a row group: several for a struct."""
        row_group = file.metadata.row_group(group)
        chunks = map(row_group.column, range(row_group.num_columns))
        return [
            chunk
            for chunk in chunks
            if chunk.path_in_schema == column or chunk.path_in_schema.startswith(f"{column}.")
        ]

    def _to_texts(self, name: str, values: pa.Array) -> pa.Array:
        if pa.types.is_dictionary(values.type):
            self._check_lengths(name, values.dictionary)
        elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            self._check_lengths(name, values)
        if names := self.class_names.get(name):
            codes = values.to_pylist()
            return pa.array([_name_of(names, code) for code in codes], pa.string())
        if pa.types.is_floating(values.type):  # pandas' cells without a value
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        try:
            return pc.fill_null(pc.cast(values, pa.string()), "")
        except pa.ArrowNotImplementedError as error:
            raise ValueError(f"the column {name!r} has neither texts nor numbers") from error

    @staticmethod
    def _check_lengths(name: str, values: pa.Array) -> None:
        longest = pc.max(pc.binary_length(values)).as_py() or 0
        if longest > MAX_CELL:
            raise ValueError(f"a cell of the column {name!r} has {longest} bytes")

    def _damaged(self, error: Exception) -> PipelineError:
        return PipelineError(f"{self.name} is not a readable Parquet file ({one_line(error)})")


def _is_blob(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_binary(kind.field(index).type)
    return _is_binary(kind)


def _leaves(
    fields: Iterable[pa.Field], blobs: Collection[str], above: str = ""
) -> Iterator[tuple[str, pa.DataType]]:
    """The names and types of columns; the fields of structs are columns of their own."""
    for field in fields:
        name = above + field.name
        if pa.types.is_struct(field.type) and name not in blobs:
            inside = [field.type.field(index) for index in range(field.type.num_fields)]
            yield from _leaves(inside, (), f"{name}.")
        else:
            yield name, field.type


def _leaf(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column, or a field of a struct: its name is a path."""
    if name in batch.schema.names:
        return batch.column(name)
    first, *rest = name.split(".")
    column = batch.column(first)
    for field in rest:
        column = pc.struct_field(column, field)
    return column


def _is_text(start: bytes) -> bool:
    """Whether bytes are the start of a text in UTF-8."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return True


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _bytes_of(image: pa.Array) -> pa.Array:
    values = pc.struct_field(image, "bytes") if pa.types.is_struct(image.type) else image
    return pc.cast(values, pa.large_binary())


def _paths_of(image: pa.Array) -> pa.Array:
    if pa.types.is_struct(image.type) and image.type.get_field_index("path") >= 0:
        return pc.fill_null(pc.cast(pc.struct_field(image, "path"), pa.string()), "")
    return pa.array([""] * len(image), pa.string())


def _name_of(names: Mapping[int, str], code: object) -> str:
    if isinstance(code, int) and code in names:
        return names[code]
    return "" if code is None or code == -1 else str(code)
