"""How many images of each class are right, with intervals."""

from collections.abc import Sequence

from markupsafe import Markup

from pipeline.core.percentages import format_interval, format_right
from pipeline.stages.evaluate import intervals
from pipeline.stages.evaluate.metrics import ClassFigures
from pipeline.stages.evaluate.svg.chart import Chart
from pipeline.stages.evaluate.svg.elements import (
    READOUT,
    Size,
    element,
    line,
    mark,
    shorten,
    text,
    width_of,
)

WIDTH, ROW = 380.0, 20.0
NUMBERS = 58.0  # the width of the column of numbers
MAX_NAME_LENGTH = 22
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def draw_class_accuracy(classes: Sequence[ClassFigures], title: str) -> Chart:
    """A row per class with test images, the least accurate first, with Wilson's 95 % interval.

    Args:
        title: Which classes these are, "" if all.
    """
    tested = sorted((row for row in classes if row.n), key=lambda row: row.correct / row.n)
    names = [shorten(row.label, MAX_NAME_LENGTH) for row in tested]
    left = max(map(width_of, names), default=0.0) + 12
    size = Size(WIDTH, READOUT + ROW * len(tested) + 30)
    bottom = READOUT + ROW * len(tested) + 6

    def at(share: float) -> float:
        return left + share * (WIDTH - NUMBERS - left)

    parts = [line(at(tick), READOUT, at(tick), bottom, "grid") for tick in TICKS]
    parts += [
        text(f"{100 * tick:.0f} %", at(tick), bottom + 14, "tick", "middle") for tick in TICKS
    ]
    for place, (row, name) in enumerate(zip(tested, names, strict=True)):
        y = READOUT + ROW * (place + 0.5) + 3
        interval = intervals.wilson(row.correct, row.n)
        whisker = line(at(interval.low), y, at(interval.high), y, "whisker c0")
        dot = element("circle", cx=at(row.correct / row.n), cy=y, r=4.0, class_="dot c0")
        ends = format_interval(interval.low, interval.high)
        label = text(name, left - 10, y + 4, "name", "end")
        number = text(format_right(row.correct, row.n), WIDTH, y + 4, "number", "end")
        readout = f"{name}: {row.correct} of {row.n} right, 95 % interval {ends}"
        parts.append(mark(_row(y) + label + whisker + dot + number, readout))
    note = f" of the {title}" if title else ""
    return Chart(
        "Accuracy by class",
        f"Share of right predictions{note} by class, with 95 % intervals, the lowest first.",
        size.svg(*parts),
    )


def _row(y: float) -> Markup:
    """The area for the pointer."""
    return element("rect", x=0.0, y=y - ROW / 2, width=WIDTH, height=ROW, class_="hit")
