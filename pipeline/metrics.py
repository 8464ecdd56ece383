"""Pure numbers: labels and probabilities in, figures out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]  # (N,)
Probabilities = npt.NDArray[np.float64]  # (N, C), rows sum to 1


def log_loss(labels: Labels, probabilities: Probabilities) -> float:
    """Mean negative log-likelihood, in nats."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, np.finfo(np.float64).tiny)).mean())


def confusion(labels: Labels, predicted: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Counts, (C, C): rows are true classes, columns predicted ones."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def summary(labels: Labels, probabilities: Probabilities, classes: Sequence[str]) -> dict[str, Any]:
    """Flat names in a stable order: loss, accuracy and n, then per class in the classes' order."""
    matrix = confusion(labels, probabilities.argmax(axis=1), len(classes))
    correct, counts = matrix.diagonal(), matrix.sum(axis=1)
    figures: dict[str, Any] = {
        "loss": log_loss(labels, probabilities),
        "accuracy": float(correct.sum() / counts.sum()),
        "correct": int(correct.sum()),
        "n": int(counts.sum()),
    }
    for name, right, count in zip(classes, correct, counts, strict=True):
        figures[f"accuracy.{name}"] = float(right / count) if count else None
        figures[f"correct.{name}"] = int(right)
        figures[f"n.{name}"] = int(count)
    return figures
