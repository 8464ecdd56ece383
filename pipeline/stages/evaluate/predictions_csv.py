"""predictions.csv: a model's prediction for each test image, with its most probable classes.

The columns are id, label, predicted, group and p_label, the probability of the label, then class_1,
p_1, class_2, p_2 ... for the most probable classes: all classes, or the first `TOP_CLASSES` of
more. Older versions wrote a column p.CLASS for each class; they are still read.
"""

import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count, repeat
from pathlib import Path

from pipeline.core import atomic, csv_cells

NAME = "predictions.csv"
COLUMNS = ("id", "label", "predicted", "group", "p_label")
TOP_CLASSES = 20  # of an image
OLD_PROBABILITY = "p."  # before a class name, in older files: the column of its probabilities


@dataclass(frozen=True)
class PredictionRow:
    """A test image, and what a model predicts for it."""

    id: str
    label: str
    predicted: str
    group: str
    """Shared by images that are not independent, "" for an image on its own."""
    of_label: float
    """Probability of the label, in 0..1; NaN where a file holds no number."""
    probabilities: Mapping[str, float]
    """Of the most probable classes, the first first; of an older file, of all classes."""
    may_lack_classes: bool = False
    """Whether there may be more classes than these."""


def write_predictions(path: Path, rows: Iterable[PredictionRow], most: int) -> None:
    """Write the rows as they come, with at most `most` classes each, in full precision."""
    header = [*COLUMNS, *chain(*((f"class_{n}", f"p_{n}") for n in range(1, most + 1)))]
    atomic.write_csv(path, header, (_cells(row, most) for row in rows))


def parse_predictions(text: str) -> list[PredictionRow]:
    """Parse a file that may come from elsewhere, without groups or with more columns.

    Raises:
        KeyError: a column is missing.
        csv.Error: it is not CSV.
    """
    return [_row(cells) for cells in csv_cells.DictReader(io.StringIO(text))]


def _cells(row: PredictionRow, most: int) -> list[object]:
    classes = list(row.probabilities.items())[:most]
    padding = repeat("", 2 * (most - len(classes)))
    return [row.id, row.label, row.predicted, row.group, row.of_label, *chain(*classes), *padding]


def _row(cells: Mapping[str | None, str | None]) -> PredictionRow:
    key, label, predicted = (cells[column] or "" for column in ("id", "label", "predicted"))
    group = cells.get("group") or ""
    if "p_label" in cells:
        of_label = _number(cells["p_label"])
        probabilities = dict(_parse_classes(cells))
        is_cut = len(probabilities) >= TOP_CLASSES
        return PredictionRow(key, label, predicted, group, of_label, probabilities, is_cut)
    probabilities = {
        column.removeprefix(OLD_PROBABILITY): _number(cell)
        for column, cell in cells.items()
        if column is not None and column.startswith(OLD_PROBABILITY)  # None: beyond the header
    }
    of_label = probabilities.get(label, math.nan)
    return PredictionRow(key, label, predicted, group, of_label, probabilities)


def _parse_classes(cells: Mapping[str | None, str | None]) -> Iterator[tuple[str, float]]:
    """The classes with their probabilities, up to the first empty cell."""
    for number in count(1):
        name, probability = cells.get(f"class_{number}"), cells.get(f"p_{number}")
        if not name and not probability:
            return
        yield name or "", _number(probability)


def _number(cell: str | None) -> float:
    try:
        return float(cell or "")
    except ValueError:
        return math.nan
