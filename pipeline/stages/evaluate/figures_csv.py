"""classes.csv, slices.csv and calibration.csv: the figures that metrics.json does not have."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.core import atomic, csv_cells
from pipeline.core.errors import REPAIR, PipelineError
from pipeline.stages.evaluate.metrics import (
    AS_TRAINED,
    CALIBRATED,
    CalibrationFigures,
    ClassFigures,
    ResultFigures,
    SliceFigures,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CLASSES, SLICES, CALIBRATION = "classes.csv", "slices.csv", "calibration.csv"
Row = TypeVar("Row", bound="DataclassInstance")


def write_figures(folder: Path, figures: ResultFigures) -> None:
    """Write the three tables, in full precision; a figure that is not defined is an empty cell."""
    _write(folder / CLASSES, ClassFigures, figures.classes)
    _write(folder / SLICES, SliceFigures, figures.slices)
    rows = [figures.as_trained, figures.calibrated]
    _write(folder / CALIBRATION, CalibrationFigures, rows)


def read_figures(folder: Path, summary: Mapping[str, float | None]) -> ResultFigures | None:
    """The figures of a test result; None if an older version wrote it: `summary` has all then.

    Args:
        summary: The content of metrics.json.

    Raises:
        PipelineError: a table is missing or damaged.
    """
    if not (folder / CLASSES).exists():
        return None
    by_name = {row.probabilities: row for row in _read(folder / CALIBRATION, CalibrationFigures)}
    if not by_name.keys() >= {AS_TRAINED, CALIBRATED}:
        raise _damaged(folder / CALIBRATION)
    return ResultFigures(
        dict(summary),
        _read(folder / CLASSES, ClassFigures),
        _read(folder / SLICES, SliceFigures),
        by_name[AS_TRAINED],
        by_name[CALIBRATED],
    )


def parse_labels(text: str) -> list[str]:
    """The classes in the text of a classes.csv, which may come from elsewhere.

    Raises:
        KeyError: it has no column of them.
        csv.Error: it is not CSV.
    """
    return [cells["label"] or "" for cells in csv_cells.DictReader(io.StringIO(text))]


def _write(path: Path, row_class: type[Row], rows: Iterable[Row]) -> None:
    atomic.write_csv(path, [field.name for field in fields(row_class)], map(astuple, rows))


def _read(path: Path, row_class: type[Row]) -> list[Row]:
    parsers = {field.name: _PARSERS[field.type] for field in fields(row_class)}
    try:
        rows = [
            {name: parse(cells[name]) for name, parse in parsers.items()}
            for cells in atomic.read_csv(path)
        ]
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise _damaged(path) from error
    return [row_class(**row) for row in rows]


def _damaged(path: Path) -> PipelineError:
    return PipelineError(f"{path} is missing or damaged: {REPAIR}")


def _number(cell: str) -> float:
    if not math.isfinite(value := float(cell)):
        raise ValueError(f"{cell} is not finite")
    return value


_PARSERS: Mapping[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: _number,
    float | None: lambda cell: _number(cell) if cell else None,
}
