"""Columns of tables: Arrow arrays of texts, numpy arrays of numbers.

Columns take a tenth of the memory of lists of Python objects. `pa.array`, `pa.scalar` and
`to_numpy` are not used here, because they import pandas, which takes 0.3 s.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

CHUNK = 10_000  # rows that are Python objects at a time

Codes = npt.NDArray[np.int32]
Column: TypeAlias = pa.Array | pa.ChunkedArray


def texts(values: Sequence[str]) -> pa.StringArray:
    """A column of texts."""
    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.StringArray.from_buffers(len(encoded), *buffers[1:])


def collect(values: Iterable[str]) -> pa.ChunkedArray:
    """A column of texts that arrive one at a time."""
    rest = iter(values)
    chunks = iter(lambda: list(islice(rest, CHUNK)), [])
    return pa.chunked_array(map(texts, chunks), pa.string())


def contiguous(column: Column) -> pa.StringArray:
    """A column of texts as one array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:  # without a copy
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else texts([])


def release_memory() -> None:
    """Give memory of dropped columns back to the system; Arrow would keep it for later ones."""
    pa.default_memory_pool().release_unused()


def iterate(column: Column) -> Iterator[Any]:
    """The values of a column as Python objects, which live for a chunk of rows only."""
    for start in range(0, len(column), CHUNK):
        yield from column.slice(start, CHUNK).to_pylist()


def encode(column: Column) -> tuple[Codes, pa.Array]:
    """The position of each text among the distinct texts, -1 for null; and the distinct texts.

    These are in the order of their first rows.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    if not len(column):
        return np.zeros(0, np.int32), texts([])
    encoded = pc.dictionary_encode(pa.chunked_array(chunks))
    codes = [numbers(chunk.indices) for chunk in encoded.chunks]
    return np.concatenate(codes), encoded.chunks[-1].dictionary


def encode_sorted(column: Column) -> tuple[Codes, list[str]]:
    """Like `encode`, for few distinct texts, in their order."""
    codes, distinct = encode(column)
    values: list[str] = distinct.to_pylist()
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = np.full(len(values) + 1, -1, np.int32)  # the last for null
    ranks[order] = np.arange(len(values), dtype=np.int32)
    return ranks[codes], [values[position] for position in order]


def fill_empty(column: Column, other: Column) -> Column:
    """A column whose empty texts are replaced by those of another."""
    return pc.if_else(pc.cast(pc.binary_length(column), pa.bool_()), column, other)


def ranks(distinct: pa.Array) -> Codes:
    """The rank of each of some distinct texts."""
    order = np.from_dlpack(pc.sort_indices(distinct))
    result = np.empty(len(order), np.int32)
    result[order] = np.arange(len(order), dtype=np.int32)
    return result


def positions(column: Column, among: Column) -> Codes:
    """The first row of `among` with the text of each row of `column`; -1 where there is none."""
    return numbers(pc.index_in(column, value_set=among))


def numbers(column: Column) -> Codes:
    """Numbers of 32 bits, -1 for null."""
    if isinstance(column, pa.ChunkedArray):
        parts = [_numbers(chunk) for chunk in column.chunks]
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)
    return _numbers(column)


def _numbers(array: pa.Array) -> Codes:
    values = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array)]
    if not array.null_count:
        return values
    return np.where(mask(pc.is_null(array)), np.int32(-1), values)


def mask(array: pa.BooleanArray | pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """A column of booleans without null."""
    chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    parts = [np.from_dlpack(pc.cast(chunk, pa.uint8())).astype(bool) for chunk in chunks]
    return np.concatenate(parts) if parts else np.zeros(0, bool)


def booleans(values: npt.NDArray[np.bool_]) -> pa.BooleanArray:
    """A column of booleans."""
    bits = pa.py_buffer(np.packbits(values, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, bits])
