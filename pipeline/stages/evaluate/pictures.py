"""The pictures of reports/test."""

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


def pictured(clean: Path, judged: TestSetResult, places: Sequence[int]) -> list[PicturedSample]:
    """Test images with what was said of them."""
    stored = views.Stored(clean, [judged.ids[place] for place in places])
    return [
        PicturedSample(
            decoding.decode(data),
            judged.classes[judged.answers[place]],
            judged.classes[judged.labels[place]],
            float(judged.calibrated[place].max()),
        )
        for data, place in zip(stored, places, strict=True)
    ]


def draw(
    directory: Path,
    history: list[dict[str, float]],
    opened: LoadedModel,
    judged: TestSetResult,
    clean: Path,
    count: int,
) -> None:
    """The pictures, and the points of their curves where DVC draws them too."""
    names, labels = judged.classes, judged.labels
    present = [number for number in range(len(names)) if 0 < (labels == number).sum() < len(labels)]
    roc = {names[each]: metrics.roc(labels, judged.calibrated, each) for each in present}
    found = {
        names[each]: metrics.precision_recall(labels, judged.calibrated, each) for each in present
    }
    before, after = (
        calibration.bins(each, labels) for each in (judged.as_trained, judged.calibrated)
    )
    matrix = metrics.confusion(labels, judged.answers, len(names))
    # The first by id: ids are hashes, so this is a fair draw that stays.
    some, mistakes = range(min(count, len(labels))), judged.wrong()[:count]
    for name, figure in {
        "curves": charts.curves(history),
        "confusion": charts.confusion(matrix, names),
        "thresholds": charts.by_threshold(roc, found),
        "reliability": charts.reliability(before, after),
        "samples": charts.samples(pictured(clean, judged, some)),
        "mistakes": charts.samples(pictured(clean, judged, mistakes)),
    }.items():
        charts.save(figure, directory / f"{name}.png")
    for name, curves in (("roc", roc), ("precision_recall", found)):
        metrics.write_curves(directory / f"{name}.csv", curves)
    draw_embedding(directory, judged)
    draw_explained(directory, opened, judged, clean)


def draw_embedding(directory: Path, judged: TestSetResult) -> None:
    """The map of (at most `embedding.MOST`) test images, as a picture and as points."""
    places = embedding.mapped(judged.embedding[: embedding.MAX_IMAGES])
    labels, answers = judged.labels[: embedding.MAX_IMAGES], judged.answers[: embedding.MAX_IMAGES]
    charts.save(
        charts.embedding(places, labels, answers, judged.classes), directory / "embedding.png"
    )
    rows = [
        (key, judged.classes[label], judged.classes[answer], f"{x:.4f}", f"{y:.4f}")
        for key, label, answer, (x, y) in zip(judged.ids, labels, answers, places, strict=False)
    ]
    atomic.write_csv(directory / "embedding.csv", ["id", "label", "predicted", "x", "y"], rows)


def draw_explained(
    directory: Path, opened: LoadedModel, judged: TestSetResult, clean: Path
) -> None:
    """Where the network looked, on its surest mistakes and on as many images it has right."""
    right = np.flatnonzero(judged.answers == judged.labels)[: charts.COLUMNS].tolist()
    places = judged.wrong()[: charts.COLUMNS] + right
    try:
        explainer = Explainer(opened.network, opened.card)
    except PipelineError:  # it has no map
        charts.save(charts.samples([]), directory / "gradcam.png")
        return
    stored = views.Stored(clean, [judged.ids[place] for place in places])
    seen = views.Views([judged.ids[place] for place in places], stored, opened.card.preprocess)
    shown = torch.stack([seen[number] for number in range(len(seen))])
    heats = explainer.heat(shown, judged.answers[places].tolist())
    samples = [
        replace(sample, pixels=overlay(view, heat))
        for sample, view, heat in zip(pictured(clean, judged, places), shown, heats, strict=True)
    ]
    charts.save(charts.samples(samples), directory / "gradcam.png")
