"""predictions.csv: a model's prediction for each test image, with the probability of each class."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import atomic, csv_cells

NAME = "predictions.csv"
COLUMNS = ("id", "label", "predicted", "group")
PROBABILITY = "p."  # before a class name: the column of its probabilities


@dataclass(frozen=True)
class PredictionRow:
    """A test image, and what a model predicts for it."""

    id: str
    label: str
    predicted: str
    group: str
    """Shared by images that are not independent, "" for an image on its own."""
    probabilities: Mapping[str, float]
    """By class, in 0..1; NaN where a file holds no number."""


def write_predictions(path: Path, classes: Sequence[str], rows: Iterable[PredictionRow]) -> None:
    """Write the rows, with the probabilities of `classes` in full precision."""
    header = [*COLUMNS, *(PROBABILITY + name for name in classes)]
    atomic.write_csv(path, header, (_cells(row, classes) for row in rows))


def read_predictions(path: Path) -> list[PredictionRow]:
    """Read the rows of `write_predictions`."""
    with path.open(encoding="utf-8", newline="") as file:
        return parse_predictions(file.read())


def parse_predictions(text: str) -> list[PredictionRow]:
    """Parse a file that may come from elsewhere, without groups or with more columns.

    Raises:
        KeyError: a column is missing.
        csv.Error: it is not CSV.
    """
    return [_row(cells) for cells in csv_cells.DictReader(io.StringIO(text))]


def _cells(row: PredictionRow, classes: Sequence[str]) -> list[object]:
    probabilities = [float(row.probabilities[name]) for name in classes]
    return [row.id, row.label, row.predicted, row.group, *probabilities]


def _row(cells: Mapping[str | None, str | None]) -> PredictionRow:
    probabilities = {
        column.removeprefix(PROBABILITY): _number(cell)
        for column, cell in cells.items()
        if column is not None and column.startswith(PROBABILITY)  # None: cells beyond the header
    }
    key, label, predicted = (cells[column] or "" for column in ("id", "label", "predicted"))
    return PredictionRow(key, label, predicted, cells.get("group") or "", probabilities)


def _number(cell: str | None) -> float:
    try:
        return float(cell or "")
    except ValueError:
        return math.nan
