"""The report's tables of classes and slices: of few images counts, not percentages."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.percentages import MIN_IMAGES, format_fraction, format_right
from pipeline.stages.evaluate import metrics
from pipeline.stages.evaluate.metrics import ClassFigures, Figures, ResultFigures, SliceFigures

CLASS_FIGURES = ("n", "correct", "precision", "recall", "f1", "roc_auc", "average_precision")
MAX_CLASSES = 30  # in tables and lists
MIN_TEST_IMAGES = 30  # of a class, for figures that mean something


@dataclass(frozen=True)
class ClassRow:
    """A row of the table of classes."""

    name: str
    cells: Sequence[str]
    """By `CLASS_FIGURES`."""


@dataclass(frozen=True)
class SliceRow:
    """A row of the table of slices."""

    name: str
    n: int
    accuracy: str


@dataclass(frozen=True)
class ClassTables:
    """The tables of classes and slices, and what to know of them."""

    classes: Sequence[ClassRow]
    """With a row of averages at the end."""
    labels: Sequence[str]
    """Of the rows before the averages, as the data set has them."""
    selection: str
    """Which classes the tables have, "" if all."""
    slices: Sequence[SliceRow]
    has_small_rows: bool
    """Whether counts stand for percentages somewhere in the tables."""
    small_classes: str
    """Classes with fewer than `MIN_TEST_IMAGES` test images, or the first of many."""
    untested_classes: str
    """Classes without test images, or the first of many."""


def collect_tables(figures: ResultFigures, classes: Sequence[str]) -> ClassTables:
    """The tables of a test result of a model with these classes."""
    names = metrics.name_classes(classes)
    selected, selection = select_classes(figures.classes)
    slices = [slice_row(row) for row in figures.slices]
    counts = [
        *(row.n for row in slices),
        *(n for row in selected for n in (row.n, row.predicted)),
    ]
    small = [names[row.label] for row in figures.classes if 0 < row.n < MIN_TEST_IMAGES]
    untested = [names[row.label] for row in figures.classes if not row.n]
    rows = [class_row(row, names[row.label]) for row in selected]
    return ClassTables(
        classes=[*rows, average_row(figures.summary)],
        labels=[row.label for row in selected],
        selection=selection,
        slices=slices,
        has_small_rows=any(count < MIN_IMAGES for count in counts),
        small_classes=list_names(small),
        untested_classes=list_names(untested),
    )


def select_classes(classes: Sequence[ClassFigures]) -> tuple[list[ClassFigures], str]:
    """The classes in the tables, and which they are; "" if all."""
    if len(classes) <= MAX_CLASSES:
        return list(classes), ""
    selection = metrics.select_classes(classes, MAX_CLASSES)
    return [classes[number] for number in selection.numbers], selection.title


def class_row(row: ClassFigures, name: str) -> ClassRow:
    """Figures of a class; of fewer than `MIN_IMAGES` images, counts or nothing."""
    cells = {figure: _format(getattr(row, figure)) for figure in CLASS_FIGURES}
    if row.n < MIN_IMAGES:
        cells |= dict.fromkeys(("f1", "roc_auc", "average_precision"), "–")
    if 0 < row.n < MIN_IMAGES:
        cells["recall"] = format_right(row.correct, row.n)
    if 0 < row.predicted < MIN_IMAGES:
        cells["precision"] = format_right(row.correct, row.predicted)
    return ClassRow(name, list(cells.values()))


def average_row(figures: Figures) -> ClassRow:
    """The means over the classes."""
    return ClassRow("macro average", [macro(figure, figures) for figure in CLASS_FIGURES])


def macro(figure: str, figures: Figures) -> str:
    """The mean over the classes of a test set of at least `MIN_IMAGES`; empty for counts."""
    name = f"{figure}.macro"
    if name not in figures:
        return ""
    return _format(figures[name]) if figures["n"] >= MIN_IMAGES else "–"


def slice_row(row: SliceFigures) -> SliceRow:
    return SliceRow(row.slice.replace("_", " "), row.n, format_right(row.correct, row.n))


def list_names(names: Sequence[str]) -> str:
    """Names with commas; of many only the first."""
    more = [f"and {len(names) - MAX_CLASSES:,} more"] if len(names) > MAX_CLASSES else []
    return ", ".join([*names[:MAX_CLASSES], *more])


def _format(value: float | str | None) -> str:
    """A cell of the table of classes."""
    if value is None:
        return "–"
    return format_fraction(value) if isinstance(value, float) else str(value)
