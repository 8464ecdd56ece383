"""Figures of a test result, from labels and probabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sklearn

from pipeline.core.percentages import format_fraction
from pipeline.core.terminal import distinct_printable
from pipeline.network import calibration
from pipeline.stages.evaluate import intervals

Labels = npt.NDArray[np.int64]  # (N,)
Probabilities = npt.NDArray[np.float64]  # (N, C), rows sum to 1
Selected = npt.NDArray[np.bool_]  # (N,)
Figures = dict[str, Any]
TOP = 5  # top-k accuracy; reported for more than 2 * TOP classes
COUNTS = ("correct", "n", "predicted")


def log_loss(labels: Labels, probabilities: Probabilities) -> float:
    """Mean negative log-likelihood, in nats.

    scikit-learn's clips probabilities to 2.2e-16 from 0 and 1: of an image that is certainly wrong
    it gives 36 instead of 708, and of confident models (logits with a spread of 60) another last
    digit in 2,997 of 3,000 random results.
    """
    of_labels = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_labels, np.finfo(np.float64).tiny)).mean())


def confusion(labels: Labels, predicted: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Counts, (C, C): rows are true classes, columns predicted ones."""
    matrix: npt.NDArray[np.int64] = sklearn.confusion_matrix(
        labels, predicted, labels=range(classes)
    )
    return matrix


def top_accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """Share of images whose label is among the `TOP` most probable classes.

    scikit-learn's breaks ties otherwise: of probabilities rounded to one digit it gives another
    figure in 1,653 of 2,054 random results.
    """
    top = np.argpartition(probabilities, -TOP, axis=1)[:, -TOP:]
    return float((top == labels[:, None]).any(axis=1).mean())


def summary(
    labels: Labels,
    probabilities: Probabilities,
    classes: Sequence[str],
    groups: Sequence[str],
    slices: Mapping[str, Selected],
) -> Figures:
    """Figures of all images, of each class and of each slice, by flat names in a stable order.

    Undefined figures, such as the recall of a class without test images, are None. Names of classes
    are printable, because `dvc metrics show` prints them as they are.

    Args:
        groups: (N,) Shared by images that are not independent, "" for an image on its own.
        slices: Images whose accuracy is reported separately, by name.
    """
    correct = probabilities.argmax(axis=1) == labels
    by_class = _of_classes(labels, probabilities, classes)
    figures: Figures = {"loss": log_loss(labels, probabilities)} | _accuracy(correct, groups)
    if len(classes) > 2 * TOP:
        figures[f"top_{TOP}"] = top_accuracy(labels, probabilities)
    figures["ece"] = calibration.reliability_bins(probabilities, labels).error
    for figure in by_class[classes[0]]:
        if figure not in COUNTS:
            figures[f"{figure}.macro"] = _mean([row[figure] for row in by_class.values()])
    names = name_classes(classes)
    for name, row in by_class.items():
        figures |= {f"{figure}.{names[name]}": value for figure, value in row.items()}
    for name, selected in slices.items():
        if selected.any():
            figures[f"accuracy.slice.{name}"] = float(correct[selected].mean())
            figures[f"n.slice.{name}"] = int(selected.sum())
    return figures


def name_classes(classes: Sequence[str]) -> dict[str, str]:
    """The name of each class in the names of figures: its own, unless that means something else."""
    return {
        label: f"class {name}" if name == "macro" or name.startswith("slice.") else name
        for label, name in distinct_printable(classes).items()
    }


def headline(figures: Figures) -> str:
    """The most important figures, on one line."""
    return (
        f"accuracy {format_fraction(figures['accuracy'])} ({figures['correct']}/{figures['n']}; "
        f"95 %: {figures['accuracy.wilson_low']:.4f} to {figures['accuracy.wilson_high']:.4f}), "
        f"loss {figures['loss']:.4f}"
    )


def _accuracy(correct: Selected, groups: Sequence[str]) -> Figures:
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


def _of_classes(
    labels: Labels, probabilities: Probabilities, classes: Sequence[str]
) -> dict[str, Figures]:
    """Figures of each class against the rest."""
    predicted, numbers = probabilities.argmax(axis=1), range(len(classes))
    precision, recall, f1, _ = sklearn.precision_recall_fscore_support(
        labels, predicted, labels=numbers, zero_division=np.nan
    )
    matrix = confusion(labels, predicted, len(classes))
    return {
        name: {
            "precision": _none_if_nan(precision[number]),
            "recall": _none_if_nan(recall[number]),
            "f1": _none_if_nan(f1[number]),
            **_ranking(labels == number, probabilities[:, number]),
            "correct": int(matrix[number, number]),
            "n": int(matrix[number].sum()),
            "predicted": int(matrix[:, number].sum()),
        }
        for number, name in enumerate(classes)
    }


def _ranking(positive: Selected, scores: npt.NDArray[np.float64]) -> Figures:
    if positive.all() or not positive.any():
        return {"roc_auc": None, "average_precision": None}
    return {
        "roc_auc": float(sklearn.roc_auc_score(positive, scores)),
        "average_precision": float(sklearn.average_precision_score(positive, scores)),
    }


@dataclass(frozen=True)
class Curve:
    """One point per threshold."""

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]


def roc(labels: Labels, probabilities: Probabilities, number: int) -> Curve:
    """False positive rate (x) and true positive rate (y) of class `number` against the rest."""
    false_positive, true_positive, _ = sklearn.roc_curve(labels == number, probabilities[:, number])
    return Curve(false_positive, true_positive)


def precision_recall(labels: Labels, probabilities: Probabilities, number: int) -> Curve:
    """Recall (x) and precision (y) of class `number` against the rest."""
    precision, recall, _ = sklearn.precision_recall_curve(
        labels == number, probabilities[:, number], drop_intermediate=True
    )
    return Curve(recall, precision)


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of the defined values."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
