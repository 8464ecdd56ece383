"""CSV files with a dataclass for a row: a column per field, every cell a string."""

import csv
from collections.abc import Iterable
from dataclasses import fields
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.core import atomic, csv_cells
from pipeline.core.errors import REPAIR, PipelineError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")


def read(path: Path, row_class: type[Row]) -> list[Row]:
    """Read the rows of a table; columns may stand in any order, and unknown ones are ignored.

    Raises:
        PipelineError: a column or a cell is missing, or the file is not CSV in UTF-8.
    """
    names = [field.name for field in fields(row_class)]
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        try:
            header = next(lines, [])
            if missing := [name for name in names if name not in header]:
                raise _damaged(path, f"it has no column {missing[0]!r}")
            cells = itemgetter(*map(header.index, names))
            return [row_class(*map(csv_cells.unescape, cells(line))) for line in lines if line]
        except IndexError as error:
            raise _damaged(path, f"line {lines.line_num} is cut off") from error
        except UnicodeDecodeError as error:
            raise _damaged(path, "it is not UTF-8") from error
        except csv.Error as error:
            raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> PipelineError:
    return PipelineError(f"{path} is damaged, or of another version ({reason}): {REPAIR}")


def write(path: Path, row_class: type[Row], rows: Iterable[Row]) -> None:
    """Replace the table at `path` by `rows`."""
    names = [field.name for field in fields(row_class)]
    atomic.write_csv(path, names, map(attrgetter(*names), rows))
