"""The CSV files behind the charts. `dvc plots` draws them with the templates in .dvc/plots."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.core import atomic
from pipeline.network.calibration import Bins, Floats
from pipeline.stages.evaluate.confusions import ConfusionMatrix
from pipeline.stages.evaluate.ranking import Curve
from pipeline.stages.evaluate.test_set import TestSetResult


def write_curves(path: Path, curves: Mapping[str, Curve]) -> None:
    """Write a row per class and point, in the order of the curve."""
    rows = [
        (name, f"{x:.6f}", f"{y:.6f}")
        for name, curve in curves.items()
        for x, y in zip(curve.x, curve.y, strict=True)
    ]
    atomic.write_csv(path, ["class", "x", "y"], rows)


def write_confusion(path: Path, matrix: ConfusionMatrix) -> None:
    """Write a row per pair of classes with images, and one per class with itself.

    The last column is of all images of the true class, also those whose prediction is left out.
    """
    rows = [
        (matrix.classes[label], matrix.classes[predicted], count, matrix.images[label])
        for (label, predicted), count in np.ndenumerate(matrix.counts)
        if count or label == predicted
    ]
    atomic.write_csv(path, ["label", "predicted", "images", "class_images"], rows)


def write_reliability(path: Path, as_trained: Bins, calibrated: Bins) -> None:
    """Write a row per bin, before and after temperature scaling."""
    rows = [
        (name, f"{probability:.6f}", f"{accuracy:.6f}", count)
        for name, bins in (("as trained", as_trained), ("calibrated", calibrated))
        for probability, accuracy, count in zip(
            bins.confidence, bins.accuracy, bins.count, strict=True
        )
    ]
    atomic.write_csv(path, ["probabilities", "probability", "accuracy", "images"], rows)


def write_embedding(path: Path, points: Floats, result: TestSetResult) -> None:
    """Write a row per image on the map: the first images of `result`, at points (N, 2)."""
    ids = result.ids.slice(0, len(points)).to_pylist()
    labels, predicted = result.labels[: len(points)], result.predicted[: len(points)]
    rows = [
        (key, result.classes[label], result.classes[top], round(x, 4), round(y, 4))
        for key, label, top, (x, y) in zip(ids, labels, predicted, points.tolist(), strict=True)
    ]
    atomic.write_csv(path, ["id", "label", "predicted", "x", "y"], rows)
