"""Figures of a test result."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.percentages import format_fraction
from pipeline.core.terminal import distinct_printable
from pipeline.network import calibration
from pipeline.stages.evaluate import intervals
from pipeline.stages.evaluate.intervals import Groups, Interval
from pipeline.stages.evaluate.probabilities import ImageProbabilities, Labels, TopClasses

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Selected = npt.NDArray[np.bool_]  # (N,)
Figures = dict[str, Any]  # numbers, or None where one is not defined
TOP = 5  # top-k accuracy; reported for more than 2 * TOP classes
COUNTS = ("correct", "n", "predicted")
SHARES = ("precision", "recall", "f1", "roc_auc", "average_precision")
MAX_CLASSES = 30  # whose curves are drawn and whose figures MLflow gets


@dataclass(frozen=True)
class ClassFigures:
    """A class against the rest; None where a figure is not defined."""

    label: str
    n: int
    """Test images of the class."""
    correct: int
    """Those that are predicted correctly."""
    predicted: int
    """Images that are predicted to be of the class."""
    precision: float | None
    recall: float | None
    f1: float | None
    roc_auc: float | None
    average_precision: float | None


@dataclass(frozen=True)
class SliceFigures:
    """A part of the test set."""

    slice: str
    n: int
    correct: int
    accuracy: float


@dataclass(frozen=True)
class CalibrationFigures:
    """How far the probabilities can be trusted, at one temperature."""

    probabilities: str
    """AS_TRAINED or CALIBRATED."""
    temperature: float
    """The divisor of the scores."""
    loss: float
    """Log loss, in nats."""
    ece: float
    """Expected calibration error."""


AS_TRAINED, CALIBRATED = "as trained", "calibrated"


@dataclass(frozen=True)
class ResultFigures:
    """All figures of a test result."""

    summary: Figures
    """The content of metrics.json."""
    classes: Sequence[ClassFigures]
    slices: Sequence[SliceFigures]
    as_trained: CalibrationFigures
    calibrated: CalibrationFigures

    def flat(self) -> Figures:
        """By flat names, as MLflow has them: of classes only those that are selected."""
        names = name_classes([row.label for row in self.classes])
        rows = [self.classes[number] for number in select_classes(self.classes).numbers]
        figures = dict(self.summary)
        for row in rows:
            for figure in (*SHARES, *COUNTS):
                figures[f"{figure}.{names[row.label]}"] = getattr(row, figure)
        for part in self.slices:
            figures[f"accuracy.slice.{part.slice}"] = part.accuracy
            figures[f"n.slice.{part.slice}"] = part.n
        figures["loss.as_trained"] = self.as_trained.loss
        figures["ece.as_trained"] = self.as_trained.ece
        figures["temperature"] = self.calibrated.temperature
        return figures


def log_loss(of_label: Floats) -> float:
    """Mean negative log-likelihood, in nats, of the probabilities (N,) of the true classes.

    scikit-learn's clips probabilities to 2.2e-16 from 0 and 1: of an image that is certainly wrong
    it gives 36 instead of 708, and of confident models (logits with a spread of 60) another last
    digit in 2,997 of 3,000 random results.
    """
    return float(-np.log(np.maximum(of_label, np.finfo(np.float64).tiny)).mean())


def top_accuracy(labels: Labels, top: TopClasses) -> float:
    """Share of images whose label is among the `TOP` most probable classes.

    scikit-learn's breaks ties otherwise: of probabilities rounded to one digit it gives another
    figure in 1,653 of 2,054 random results.
    """
    return float((top.classes[:, :TOP] == labels[:, None]).any(axis=1).mean())


def summarise(
    labels: Labels,
    probabilities: ImageProbabilities,
    top: TopClasses,
    classes: Sequence[ClassFigures],
    groups: Groups,
) -> Figures:
    """The figures that people compare, by name, in a stable order: at most fifteen.

    The mean over the classes is over those with test images where the figure is defined.

    Args:
        groups: Shared by images that are not independent.
    """
    correct = probabilities.predicted == labels
    figures: Figures = {"loss": log_loss(probabilities.of_label), **_accuracy(correct, groups)}
    if len(classes) > 2 * TOP:
        figures[f"top_{TOP}"] = top_accuracy(labels, top)
    figures["ece"] = calibration.reliability_bins(probabilities.of_predicted, correct).error
    tested = [row for row in classes if row.n]
    for name in SHARES:
        figures[f"{name}.macro"] = _mean(getattr(row, name) for row in tested)
    return figures


def slice_figures(correct: Selected, slices: Mapping[str, Selected]) -> list[SliceFigures]:
    """Figures of the slices, by name, that are not empty."""
    return [
        SliceFigures(name, int(mask.sum()), int(correct[mask].sum()), float(correct[mask].mean()))
        for name, mask in slices.items()
        if mask.any()
    ]


def calibration_figures(
    name: str, temperature: float, probabilities: ImageProbabilities, labels: Labels
) -> CalibrationFigures:
    bins = calibration.reliability_bins(
        probabilities.of_predicted, probabilities.predicted == labels
    )
    return CalibrationFigures(name, temperature, log_loss(probabilities.of_label), bins.error)


def _accuracy(correct: Selected, groups: Groups) -> Figures:
    wilson = intervals.wilson(int(correct.sum()), len(correct))
    bootstrap = intervals.bootstrap(correct, groups)
    return {
        "accuracy": float(correct.mean()),
        "accuracy.wilson_low": wilson.low,
        "accuracy.wilson_high": wilson.high,
        "accuracy.bootstrap_low": bootstrap.low,
        "accuracy.bootstrap_high": bootstrap.high,
        "correct": int(correct.sum()),
        "n": len(correct),
    }


@dataclass(frozen=True)
class ClassCounts:
    """Images by class, each (classes,)."""

    n: Counts
    """Of the class."""
    predicted: Counts
    correct: Counts

    def figures(self, number: int, label: str) -> ClassFigures:
        """The figures of class `number`, those of its ranking left out."""
        n, predicted, correct = (
            int(counts[number]) for counts in (self.n, self.predicted, self.correct)
        )
        return ClassFigures(
            label,
            n,
            correct,
            predicted,
            correct / predicted if predicted else None,
            correct / n if n else None,
            2 * correct / (n + predicted) if n else None,
            roc_auc=None,
            average_precision=None,
        )


def count_classes(labels: Labels, predicted: Labels, classes: int) -> ClassCounts:
    of_class, correct = np.bincount(labels, minlength=classes), labels[labels == predicted]
    predictions = np.bincount(predicted, minlength=classes)
    return ClassCounts(of_class, predictions, np.bincount(correct, minlength=classes))


@dataclass(frozen=True)
class ClassSelection:
    """The classes of tables and charts, by number, in their order."""

    numbers: Sequence[int]
    worst: int
    """How many are there for their low F1, and `largest` for their size; 0 if all are there."""
    largest: int
    total: int
    """Classes to select from."""

    @property
    def title(self) -> str:
        """Which classes these are, "" if all."""
        if not self.worst:
            return ""
        return f"{self.worst} worst and {self.largest} largest of {self.total} classes"


def select_classes(classes: Sequence[ClassFigures], most: int = MAX_CLASSES) -> ClassSelection:
    """Select all classes with curves, or at most `most`.

    Of more classes half are those with the lowest F1, and half the largest of the others; among
    equals the first. A class without test images, or alone in the test set, has no curves.
    """
    images = sum(row.n for row in classes)
    numbers = [number for number, row in enumerate(classes) if 0 < row.n < images]
    total = len(numbers)
    if total <= most:
        return ClassSelection(numbers, 0, 0, total)
    worst = sorted(numbers, key=lambda number: classes[number].f1 or 0.0)[: most // 2]
    others = sorted(set(numbers) - set(worst), key=lambda number: (-classes[number].n, number))
    largest = others[: most - len(worst)]
    return ClassSelection(sorted(worst + largest), len(worst), len(largest), total)


def name_classes(classes: Sequence[str]) -> dict[str, str]:
    """The name of each class in the names of figures: its own, unless that means something else.

    Names are printable, because they are printed as they are.
    """
    return {
        label: f"class {name}" if name == "macro" or name.startswith("slice.") else name
        for label, name in distinct_printable(classes).items()
    }


def headline(figures: Figures, interval: Interval) -> str:
    """The most important figures, on one line.

    Args:
        interval: Of the accuracy, as the report has it.
    """
    return (
        f"accuracy {format_fraction(figures['accuracy'])} ({figures['correct']}/{figures['n']}; "
        f"95 %: {format_fraction(interval.low)} to {format_fraction(interval.high)}), "
        f"loss {figures['loss']:.4f}"
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of the defined values."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
