"""Lists of files and labels in a .txt file: `1.jpg cat`, usually without names of columns."""

import io
from collections.abc import Iterator, Sequence
from itertools import islice

import pyarrow as pa

from pipeline.core.columns import texts
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.terminal import one_line
from pipeline.stages.acquire.layouts.file_names import IMAGE_SUFFIX
from pipeline.stages.acquire.layouts.table_limits import MAX_COLUMNS

SCANNED_LINES = 100
ROWS = 4096  # that are Python objects at a time
SEPARATORS = ("\t", ";", ",", "|", None)
"""In the order in which they are tried; None: any blanks."""


class ListFile:
    """Lines of as many cells, separated by tabs, commas, semicolons, bars or blanks.

    Lines that start with # are comments.
    """

    nested: frozenset[str] = frozenset()
    blob_columns: frozenset[str] = frozenset()

    def __init__(self, name: str, data: bytes) -> None:
        """Find the separator.

        Raises:
            PipelineError: it is no text in UTF-8, or its lines have no cells in common.
        """
        self.name = name
        self._data = data
        lines = [line for _, line in islice(self._lines(), SCANNED_LINES)]
        self._separator, first = self._find_separator(lines)
        self.has_header = self._find_header(lines, first)
        numbers = [str(number) for number in range(1, len(first) + 1)]
        self.columns = tuple(first if self.has_header else numbers)

    def read(self, names: Sequence[str]) -> pa.Table:
        """These columns as texts.

        Raises:
            PipelineError: a line has more or fewer cells than the first.
        """
        positions = [self.columns.index(name) for name in names]
        rows = self._rows()
        if self.has_header:
            next(rows)
        schema = pa.schema([(name, pa.string()) for name in names])
        batches = []
        while chunk := list(islice(rows, ROWS)):
            cells = [texts([row[position] for row in chunk]) for position in positions]
            batches.append(pa.RecordBatch.from_arrays(cells, schema=schema))
        return pa.Table.from_batches(batches, schema)

    def _rows(self) -> Iterator[list[str]]:
        for number, line in self._lines():
            cells = _split(line, self._separator)
            if len(cells) != len(self.columns):
                raise PipelineError(
                    f"{self.name}, line {number}: it has {plural(len(cells), 'cell')}, but the "
                    f"first line {len(self.columns)}"
                )
            yield cells

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Lines with a text, and their numbers."""
        try:
            for number, line in enumerate(io.TextIOWrapper(io.BytesIO(self._data), "utf-8-sig"), 1):
                if line.strip() and not line.startswith("#"):
                    yield number, line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise PipelineError(f"{self.name} is not text in UTF-8 ({one_line(error)})") from error

    def _find_separator(self, lines: Sequence[str]) -> tuple[str | None, list[str]]:
        for separator in SEPARATORS:
            rows = [_split(line, separator) for line in lines]
            if rows and 2 <= len(rows[0]) <= MAX_COLUMNS and len(set(map(len, rows))) == 1:
                return separator, rows[0]
        raise PipelineError(f"{self.name} is no list of files and labels, a line each")

    def _find_header(self, lines: Sequence[str], first: Sequence[str]) -> bool:
        """Whether the second line has the name of an image, and the first has none."""
        second = _split(lines[1], self._separator) if len(lines) > 1 else []
        return any(map(IMAGE_SUFFIX.search, second)) and not any(map(IMAGE_SUFFIX.search, first))


def _split(line: str, separator: str | None) -> list[str]:
    return [cell.strip() for cell in line.split(separator)]
