"""The pictures of reports/test: facts for the drawing process, and the files that it returns."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.images import decoding
from pipeline.network import views
from pipeline.stages.evaluate.drawing import (
    ChartFacts,
    DrawnCharts,
    draw_charts,
    draw_grid,
)
from pipeline.stages.evaluate.gradcam import Explainer, overlay
from pipeline.stages.evaluate.photographs import PicturedSample, shrink
from pipeline.stages.evaluate.test_set import LoadedModel, TestSetResult

EXPLAINED = 5  # mistakes, and as many correct predictions, with a heatmap: a row of each


@dataclass(frozen=True)
class PendingPictures:
    """Pictures that the drawing process works on."""

    curves: Future[bytes]
    charts: Future[DrawnCharts]
    photographs: Mapping[str, Sequence[PicturedSample]]
    grids: Mapping[str, Future[bytes]]

    def write(self, folder: Path) -> None:
        """Wait for the pictures, and write them."""
        pngs = {"curves": self.curves.result(), **self.charts.result().pngs}
        for name, png in pngs.items():
            (folder / f"{name}.png").write_bytes(png)
        for name, grid in self.grids.items():
            (folder / f"{name}.png").write_bytes(grid.result())


def request_pictures(
    drawing: Executor,
    curves: Future[bytes],
    facts: ChartFacts,
    model: LoadedModel,
    result: TestSetResult,
    clean: Path,
    count: int,
) -> PendingPictures:
    """Have all pictures of a test result drawn, those of samples with `count` images."""
    charts = drawing.submit(draw_charts, facts)
    photographs: dict[str, Sequence[PicturedSample]] = {}
    grids: dict[str, Future[bytes]] = {}
    for name, samples in _collect_photographs(model, result, clean, count):
        photographs[name] = samples
        grids[name] = drawing.submit(draw_grid, samples, result.classes)
    return PendingPictures(curves, charts, photographs, grids)


def _collect_photographs(
    model: LoadedModel, result: TestSetResult, clean: Path, count: int
) -> Iterator[tuple[str, list[PicturedSample]]]:
    # The first images by id: ids are hashes, so these are a random but stable sample.
    yield "samples", _read_samples(clean, result, range(min(count, len(result.ids))))
    yield "mistakes", _read_samples(clean, result, result.mistakes()[:count])
    yield "gradcam", _explain(model, result, clean)


def _explain(model: LoadedModel, result: TestSetResult, clean: Path) -> list[PicturedSample]:
    """Grad-CAM maps of the most confident mistakes, and of as many correct predictions."""
    correct = np.flatnonzero(result.predicted == result.labels)[:EXPLAINED].tolist()
    indices = result.mistakes()[:EXPLAINED] + correct
    try:
        explainer = Explainer(model.network, model.card)
    except PipelineError:  # no feature map to explain, as in a transformer
        return []
    stored = _stored(clean, result, indices)
    loaded = views.Views(stored.ids, stored, model.card.preprocess)
    images = torch.stack([loaded[number] for number in range(len(loaded))])
    heatmaps = explainer.heat(images, result.predicted[indices].tolist())
    return [
        replace(sample, pixels=shrink(overlay(image, heatmap)))
        for sample, image, heatmap in zip(
            _read_samples(clean, result, indices), images, heatmaps, strict=True
        )
    ]


def _read_samples(
    clean: Path, result: TestSetResult, indices: Sequence[int]
) -> list[PicturedSample]:
    stored = _stored(clean, result, indices)
    return [
        PicturedSample(
            shrink(decoding.decode(data)),
            result.classes[result.predicted[index]],
            result.classes[result.labels[index]],
            float(result.calibrated.of_predicted[index]),
        )
        for data, index in zip(stored, indices, strict=True)
    ]


def _stored(clean: Path, result: TestSetResult, indices: Sequence[int]) -> views.EncodedImages:
    return views.EncodedImages(clean, result.ids.take(shards.array(np.array(indices, np.int64))))
