"""Pure numbers: labels and probabilities in, figures out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sklearn

from pipeline.core import atomic
from pipeline.network import calibration
from pipeline.stages.evaluate import intervals

Labels = npt.NDArray[np.int64]  # (N,)
Probabilities = npt.NDArray[np.float64]  # (N, C), rows sum to 1
Selected = npt.NDArray[np.bool_]  # (N,)
Figures = dict[str, Any]
TOP = 5  # classes, of which one is right: for networks that know more than twice as many


def log_loss(labels: Labels, probabilities: Probabilities) -> float:
    """Mean negative log-likelihood, in nats."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, np.finfo(np.float64).tiny)).mean())


def confusion(labels: Labels, predicted: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Counts, (C, C): rows are true classes, columns predicted ones."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def summary(
    labels: Labels,
    probabilities: Probabilities,
    classes: Sequence[str],
    groups: Sequence[str],
    slices: Mapping[str, Selected],
) -> Figures:
    """Flat names in a stable order: of all images, of each class, and of each slice.

    What is not defined, as the recall of a class that is not there, is None.

    Args:
        groups: (N,) Which images belong together, "" where one stands alone.
        slices: Images whose accuracy is looked at apart, by name.
    """
    right = probabilities.argmax(axis=1) == labels
    by_class = _of_classes(labels, probabilities, classes)
    figures: Figures = {"loss": log_loss(labels, probabilities)} | _accuracy(right, groups)
    if len(classes) > 2 * TOP:
        best = np.argpartition(probabilities, -TOP, axis=1)[:, -TOP:]
        figures[f"top_{TOP}"] = float((best == labels[:, None]).any(axis=1).mean())
    figures["ece"] = calibration.bins(probabilities, labels).error
    for name in by_class[classes[0]]:
        if name not in COUNTS:
            figures[f"{name}.macro"] = _mean([each[name] for each in by_class.values()])
    for one, found in by_class.items():
        figures |= {f"{name}.{one}": value for name, value in found.items()}
    for name, selected in slices.items():
        if selected.any():
            figures[f"accuracy.slice.{name}"] = float(right[selected].mean())
            figures[f"n.slice.{name}"] = int(selected.sum())
    return figures


def _accuracy(right: Selected, groups: Sequence[str]) -> Figures:
    by_formula = intervals.wilson(int(right.sum()), len(right))
    drawn = intervals.bootstrap(right, groups)
    return {
        "accuracy": float(right.mean()),
        "accuracy.wilson_low": by_formula.low,
        "accuracy.wilson_high": by_formula.high,
        "accuracy.bootstrap_low": drawn.low,
        "accuracy.bootstrap_high": drawn.high,
        "correct": int(right.sum()),
        "n": len(right),
    }


COUNTS = ("correct", "n", "predicted")


def _of_classes(
    labels: Labels, probabilities: Probabilities, classes: Sequence[str]
) -> dict[str, Figures]:
    """Each class against the rest."""
    predicted, all_of_them = probabilities.argmax(axis=1), range(len(classes))
    precision, recall, f1, _ = sklearn.precision_recall_fscore_support(
        labels, predicted, labels=all_of_them, zero_division=np.nan
    )
    matrix = confusion(labels, predicted, len(classes))
    found = {}
    for number, name in enumerate(classes):
        ranked = _ranking(labels == number, probabilities[:, number])
        found[name] = {
            "precision": _defined(precision[number]),
            "recall": _defined(recall[number]),
            "f1": _defined(f1[number]),
            **ranked,
            "correct": int(matrix[number, number]),
            "n": int(matrix[number].sum()),
            "predicted": int(matrix[:, number].sum()),
        }
    return found


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
    """False positive rate, and true positive rate, of class `number` against the rest."""
    false, true, _ = sklearn.roc_curve(labels == number, probabilities[:, number])
    return Curve(false, true)


def precision_recall(labels: Labels, probabilities: Probabilities, number: int) -> Curve:
    """Recall, and precision, of class `number` against the rest."""
    precision, recall, _ = sklearn.precision_recall_curve(
        labels == number, probabilities[:, number]
    )
    return Curve(recall, precision)


def write_curves(path: Path, curves: Mapping[str, Curve]) -> None:
    """A row per class and point, for DVC to draw."""
    rows = [
        (name, f"{x:.6f}", f"{y:.6f}")
        for name, curve in curves.items()
        for x, y in zip(curve.x, curve.y, strict=True)
    ]
    atomic.write_csv(path, ["class", "x", "y"], rows)


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: Sequence[float | None]) -> float | None:
    """Of the classes that have one."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
