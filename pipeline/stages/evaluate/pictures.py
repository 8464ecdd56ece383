"""The pictures of reports/test, and the CSV files that `dvc plots` draws."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from pipeline.core.errors import PipelineError
from pipeline.images import decoding
from pipeline.network import calibration, views
from pipeline.stages.evaluate import charts, embedding, metrics, tables
from pipeline.stages.evaluate.charts import PicturedSample
from pipeline.stages.evaluate.fonts import fonts_for
from pipeline.stages.evaluate.gradcam import Explainer, overlay
from pipeline.stages.evaluate.test_set import LoadedModel, TestSetResult


@dataclass(frozen=True)
class Pictures:
    """What the report shows, by the names of the files."""

    charts: Mapping[str, str]
    """As SVG."""
    photographs: Mapping[str, Sequence[PicturedSample]]


def write_pictures(
    folder: Path,
    history: list[dict[str, float]],
    model: LoadedModel,
    result: TestSetResult,
    clean: Path,
    count: int,
) -> Pictures:
    """Write all pictures of a test result, those of samples with `count` images."""
    # The first images by id: ids are hashes, so these are a random but stable sample.
    sampled = range(min(count, len(result.ids)))
    photographs = {
        "samples": _read_samples(clean, result, sampled),
        "mistakes": _read_samples(clean, result, result.mistakes()[:count]),
        "gradcam": _explain(model, result, clean),
    }
    svgs: dict[str, str] = {}
    with fonts_for(result.classes):
        for name, samples in photographs.items():
            charts.save(charts.samples(samples), folder / f"{name}.png")
        for name, figure in _draw_charts(folder, history, result):
            charts.save(figure, folder / f"{name}.png")
            svgs[name] = charts.svg(figure, name)
    return Pictures(svgs, photographs)


def _draw_charts(
    folder: Path, history: list[dict[str, float]], result: TestSetResult
) -> Iterator[tuple[str, Figure]]:
    """Draw the charts, and write the tables behind them."""
    classes, labels, probabilities = result.classes, result.labels, result.calibrated
    yield "curves", charts.curves(history)

    matrix = metrics.confusion(labels, result.predicted, len(classes))
    tables.write_confusion(folder / "confusion.csv", matrix, classes)
    yield "confusion", charts.confusion(matrix, classes)

    # A class without test images, or alone in the test set, has no curves.
    numbers = [n for n in range(len(classes)) if 0 < (labels == n).sum() < len(labels)]
    roc = {classes[n]: metrics.roc(labels, probabilities, n) for n in numbers}
    precision = {classes[n]: metrics.precision_recall(labels, probabilities, n) for n in numbers}
    tables.write_curves(folder / "roc.csv", roc)
    tables.write_curves(folder / "precision_recall.csv", precision)
    yield "thresholds", charts.by_threshold(roc, precision)

    before = calibration.reliability_bins(result.as_trained, labels)
    after = calibration.reliability_bins(probabilities, labels)
    tables.write_reliability(folder / "reliability.csv", before, after)
    yield "reliability", charts.reliability(before, after)

    points = embedding.map_to_plane(result.embedding[: embedding.MAX_IMAGES])
    tables.write_embedding(folder / "embedding.csv", points, result)
    mapped = slice(len(points))
    yield "embedding", charts.embedding(points, labels[mapped], result.predicted[mapped], classes)


def _explain(model: LoadedModel, result: TestSetResult, clean: Path) -> list[PicturedSample]:
    """Grad-CAM maps of the most confident mistakes, and of as many correct predictions."""
    correct = np.flatnonzero(result.predicted == result.labels)[: charts.COLUMNS].tolist()
    indices = result.mistakes()[: charts.COLUMNS] + correct
    try:
        explainer = Explainer(model.network, model.card)
    except PipelineError:  # no feature map to explain, as in a transformer
        return []
    ids = [result.ids[index] for index in indices]
    loaded = views.Views(ids, views.EncodedImages(clean, ids), model.card.preprocess)
    images = torch.stack([loaded[number] for number in range(len(loaded))])
    heatmaps = explainer.heat(images, result.predicted[indices].tolist())
    return [
        replace(sample, pixels=overlay(image, heatmap))
        for sample, image, heatmap in zip(
            _read_samples(clean, result, indices), images, heatmaps, strict=True
        )
    ]


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
