"""Stage evaluate: how good the model is on images that had no part in making it."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline import (
    atomic,
    batches,
    device,
    images,
    metrics,
    model,
    params,
    report,
    stage,
    tracking,
    views,
)  # fmt: skip
from pipeline.batches import Examples, Source
from pipeline.feed import PART
from pipeline.frozen import Frozen
from pipeline.metrics import Probabilities
from pipeline.network.cut import cut
from pipeline.network.layout import channels_last
from pipeline.params import Params
from pipeline.report import Sample


def open_model(
    models: Path, features: Path, clean: Path, examples: Examples, settings: Params
) -> tuple[nn.Module, Source]:
    """The trained part of the model, and its inputs: from cached features where there are any."""
    network, card = model.load(models)
    parts = cut(network, card.trained_from, card.preprocess.size)
    fabric = device.start(settings.device, alone=True)
    index = batches.read_index(features)
    part = Frozen(
        parts, card.preprocess, fabric, index.precision, getattr(torch, index.dtype),
        settings.device.compile,
    )  # fmt: skip
    source = batches.open_source(features, clean, None, examples, part)
    return fabric.setup_module(channels_last(parts.suffix)), source


def score(suffix: nn.Module, source: Source, examples: Examples) -> Probabilities:
    """The model's probabilities for the test set, in the order of split.csv."""
    logits = batches.logits(suffix, source, examples.rows("test"), PART)
    probabilities: Probabilities = logits.double().softmax(dim=1).numpy()
    return probabilities


def write_predictions(path: Path, examples: Examples, probabilities: Probabilities) -> None:
    """One row per test image: what it is, what was said, and each class's probability."""
    names = examples.classes
    header = ["id", "label", "predicted", *(f"p.{name}" for name in names)]
    rows = [
        (
            examples.ids[row], names[examples.labels[row]], names[values.argmax()],
            *(f"{value:.6f}" for value in values),
        )
        for row, values in zip(examples.rows("test"), probabilities, strict=True)
    ]  # fmt: skip
    atomic.write_csv(path, header, rows)


def pick_samples(
    clean: Path, examples: Examples, probabilities: Probabilities, count: int
) -> list[Sample]:
    """The first test images by id: ids are hashes, so this is a fair draw that stays."""
    rows = examples.rows("test")[:count]
    stored = views.Stored(clean, [examples.ids[row] for row in rows])
    return [
        Sample(
            images.decode(data), examples.classes[values.argmax()],
            examples.classes[examples.labels[row]], float(values.max()),
        )
        for data, row, values in zip(stored, rows, probabilities, strict=False)
    ]  # fmt: skip


def draw(
    directory: Path, history: list[dict[str, float]], examples: Examples,
    probabilities: Probabilities, chosen: list[Sample],
) -> None:  # fmt: skip
    """curves.png, confusion.png and samples.png."""
    labels = examples.labels[examples.rows("test")].numpy()
    matrix = metrics.confusion(labels, probabilities.argmax(axis=1), len(examples.classes))
    report.save(report.curves(history), directory / "curves.png")
    report.save(report.confusion(matrix, examples.classes), directory / "confusion.png")
    report.save(report.samples(chosen), directory / "samples.png")


def read_history(path: Path) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in row.items()} for row in atomic.read_csv(path)]


def main(
    models: Path, features: Path, clean: Path, split_csv: Path, history_csv: Path,
    metrics_json: Path, test: Path,
) -> None:  # fmt: skip
    """Judge MODELS on the test set of SPLIT_CSV; write METRICS_JSON, and the rest into TEST."""
    settings = params.load()
    examples = batches.read_examples(split_csv)
    history = read_history(history_csv)
    suffix, source = open_model(models, features, clean, examples, settings)
    with device.memory("lower images.size"):
        probabilities = score(suffix, source, examples)
    labels = np.asarray(examples.labels[examples.rows("test")])
    figures = metrics.summary(labels, probabilities, examples.classes)
    with atomic.replacing(test) as staged:
        staged.mkdir()
        write_predictions(staged / "predictions.csv", examples, probabilities)
        chosen = pick_samples(clean, examples, probabilities, settings.evaluate.samples)
        draw(staged, history, examples, probabilities, chosen)
    atomic.write_text(metrics_json, json.dumps(figures, indent=2) + "\n")
    tracking.evaluation(settings, models, suffix, history, figures, test)
    print(f"evaluate: accuracy {figures['accuracy']:.4f} ({figures['correct']}/{figures['n']}), "
          f"loss {figures['loss']:.4f}")  # fmt: skip


if __name__ == "__main__":
    stage.run(main)
