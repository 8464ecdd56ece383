"""The pictures of reports/test, and the CSV files that `dvc plots` draws."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pipeline.core import atomic
from pipeline.core.errors import PipelineError
from pipeline.images import decoding
from pipeline.network import calibration, views
from pipeline.stages.evaluate import charts, embedding, metrics
from pipeline.stages.evaluate.charts import PicturedSample
from pipeline.stages.evaluate.gradcam import Explainer, overlay
from pipeline.stages.evaluate.test_set import LoadedModel, TestSetResult


def write_pictures(
    folder: Path,
    history: list[dict[str, float]],
    model: LoadedModel,
    result: TestSetResult,
    clean: Path,
    count: int,
) -> None:
    """Write all pictures of a test result, those of samples with `count` images."""
    _write_charts(folder, history, result)
    # The first images by id: ids are hashes, so these are a random but stable sample.
    sampled = range(min(count, len(result.ids)))
    for name, indices in (("samples", sampled), ("mistakes", result.mistakes()[:count])):
        figure = charts.samples(_read_samples(clean, result, indices))
        charts.save(figure, folder / f"{name}.png")
    _write_embedding(folder, result)
    _write_gradcam(folder, model, result, clean)


def _write_charts(folder: Path, history: list[dict[str, float]], result: TestSetResult) -> None:
    classes, labels, probabilities = result.classes, result.labels, result.calibrated
    # A class without test images, or alone in the test set, has no curves.
    numbers = [n for n in range(len(classes)) if 0 < (labels == n).sum() < len(labels)]
    roc = {classes[n]: metrics.roc(labels, probabilities, n) for n in numbers}
    precision = {classes[n]: metrics.precision_recall(labels, probabilities, n) for n in numbers}
    before = calibration.reliability_bins(result.as_trained, labels)
    after = calibration.reliability_bins(probabilities, labels)
    matrix = metrics.confusion(labels, result.predicted, len(classes))
    for name, figure in {
        "curves": charts.curves(history),
        "confusion": charts.confusion(matrix, classes),
        "thresholds": charts.by_threshold(roc, precision),
        "reliability": charts.reliability(before, after),
    }.items():
        charts.save(figure, folder / f"{name}.png")
    metrics.write_curves(folder / "roc.csv", roc)
    metrics.write_curves(folder / "precision_recall.csv", precision)


def _write_embedding(folder: Path, result: TestSetResult) -> None:
    """Write a map of at most `embedding.MAX_IMAGES` test images, as a picture and as points."""
    points = embedding.map_to_plane(result.embedding[: embedding.MAX_IMAGES])
    labels, predicted = result.labels[: len(points)], result.predicted[: len(points)]
    figure = charts.embedding(points, labels, predicted, result.classes)
    charts.save(figure, folder / "embedding.png")
    rows = [
        (key, result.classes[label], result.classes[answer], round(float(x), 4), round(float(y), 4))
        for key, label, answer, (x, y) in zip(result.ids, labels, predicted, points, strict=False)
    ]
    atomic.write_csv(folder / "embedding.csv", ["id", "label", "predicted", "x", "y"], rows)


def _write_gradcam(folder: Path, model: LoadedModel, result: TestSetResult, clean: Path) -> None:
    """Draw Grad-CAM maps of the most confident mistakes, and of as many correct predictions."""
    path = folder / "gradcam.png"
    correct = np.flatnonzero(result.predicted == result.labels)[: charts.COLUMNS].tolist()
    indices = result.mistakes()[: charts.COLUMNS] + correct
    try:
        explainer = Explainer(model.network, model.card)
    except PipelineError:  # no feature map to explain, as in a transformer
        charts.save(charts.samples([]), path)
        return
    ids = [result.ids[index] for index in indices]
    loaded = views.Views(ids, views.EncodedImages(clean, ids), model.card.preprocess)
    images = torch.stack([loaded[number] for number in range(len(loaded))])
    heatmaps = explainer.heat(images, result.predicted[indices].tolist())
    samples = [
        replace(sample, pixels=overlay(image, heatmap))
        for sample, image, heatmap in zip(
            _read_samples(clean, result, indices), images, heatmaps, strict=True
        )
    ]
    charts.save(charts.samples(samples), path)


def _read_samples(
    clean: Path, result: TestSetResult, indices: Sequence[int]
) -> list[PicturedSample]:
    stored = views.EncodedImages(clean, [result.ids[index] for index in indices])
    return [
        PicturedSample(
            decoding.decode(data),
            result.classes[result.predicted[index]],
            result.classes[result.labels[index]],
            float(result.calibrated[index].max()),
        )
        for data, index in zip(stored, indices, strict=True)
    ]
