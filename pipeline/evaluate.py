"""Stage evaluate: how good the model is on the test set, and where it fails."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline import (
    atomic,
    batches,
    calibration,
    charts,
    device,
    images,
    metrics,
    model,
    params,
    shards,
    stage,
    tracking,
    views,
)  # fmt: skip
from pipeline.batches import Examples, Source
from pipeline.charts import Sample
from pipeline.feed import PART
from pipeline.frozen import Frozen
from pipeline.metrics import Figures, Labels, Probabilities, Selected
from pipeline.model import Card
from pipeline.network.cut import cut
from pipeline.network.layout import channels_last
from pipeline.params import Params
from pipeline.report import Page


@dataclass(frozen=True)
class Judged:
    """The test set, in the order of split.csv, and what the model says of it."""

    ids: list[str]
    labels: Labels
    classes: list[str]
    as_trained: Probabilities
    calibrated: Probabilities
    """At the model's temperature, as `predict` gives them."""

    @property
    def answers(self) -> Labels:
        found: Labels = self.calibrated.argmax(axis=1)
        return found

    def wrong(self) -> list[int]:
        """Places of the mistakes, the surest first."""
        places = np.flatnonzero(self.answers != self.labels)
        sure = self.calibrated.max(axis=1)[places]
        found: list[int] = places[np.argsort(-sure, kind="stable")].tolist()
        return found


def open_model(
    models: Path, features: Path, clean: Path, examples: Examples, settings: Params
) -> tuple[nn.Module, Source, Card]:
    """The trained part of the model, its inputs (cached features where there are any), its card."""
    network, card = model.load(models)
    parts = cut(network, card.trained_from, card.preprocess.size)
    fabric = device.start(settings.device, alone=True)
    index = batches.read_index(features)
    part = Frozen(
        parts, card.preprocess, fabric, index.precision, getattr(torch, index.dtype),
        settings.device.compile,
    )  # fmt: skip
    source = batches.open_source(features, clean, None, examples, part)
    return fabric.setup_module(channels_last(parts.suffix)), source, card


def judge(suffix: nn.Module, source: Source, card: Card, examples: Examples) -> Judged:
    """Run the model over the test set."""
    rows = examples.rows("test")
    with device.memory("lower images.size"):
        logits = batches.logits(suffix, source, rows, PART).double().numpy()
    return Judged(
        [examples.ids[row] for row in rows], np.asarray(examples.labels[rows]), examples.classes,
        calibration.probabilities(logits, 1.0),
        calibration.probabilities(logits, card.temperature),
    )  # fmt: skip


def slices(facts: Sequence[dict[str, Any]], card: Card) -> dict[str, Selected]:
    """Images that may be harder or easier than the rest, by name.

    Args:
        facts: Of the test images: near_group, width, height, group.
    """
    near = np.array([fact["near_group"] is not None for fact in facts])
    least = card.preprocess.resize
    small = np.array([min(fact["width"], fact["height"]) < least for fact in facts])
    pairs = {"near_duplicates": near, "no_near_duplicates": ~near, "enlarged": small,
             "not_enlarged": ~small}  # fmt: skip
    return {name: found for name, found in pairs.items() if 0 < found.sum() < len(facts)}


def figures_of(judged: Judged, groups: Sequence[str], parts: dict[str, Selected]) -> Figures:
    """What metrics.json holds, its temperature aside."""
    found = metrics.summary(judged.labels, judged.calibrated, judged.classes, groups, parts)
    found["loss.as_trained"] = metrics.log_loss(judged.labels, judged.as_trained)
    found["ece.as_trained"] = calibration.bins(judged.as_trained, judged.labels).error
    return found


def write_predictions(path: Path, judged: Judged, groups: Sequence[str]) -> None:
    """One row per test image: what it is, what was said, its group, each class's probability."""
    names = judged.classes
    header = ["id", "label", "predicted", "group", *(f"p.{name}" for name in names)]
    rows = [
        (key, names[label], names[answer], group, *(repr(float(value)) for value in values))
        for key, label, answer, group, values in zip(
            judged.ids, judged.labels, judged.answers, groups, judged.calibrated, strict=True
        )
    ]
    atomic.write_csv(path, header, rows)


def pictured(clean: Path, judged: Judged, places: Sequence[int]) -> list[Sample]:
    """Test images with what was said of them."""
    stored = views.Stored(clean, [judged.ids[place] for place in places])
    return [
        Sample(
            images.decode(data), judged.classes[judged.answers[place]],
            judged.classes[judged.labels[place]], float(judged.calibrated[place].max()),
        )
        for data, place in zip(stored, places, strict=True)
    ]  # fmt: skip


def draw(
    directory: Path, history: list[dict[str, float]], judged: Judged, clean: Path, count: int
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


def read_history(path: Path) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in row.items()} for row in atomic.read_csv(path)]


def facts_of_test(clean: Path, split_csv: Path, ids: Sequence[str]) -> list[dict[str, Any]]:
    """near_group, width and height of the clean images `ids`, and their group of split.csv."""
    columns = ["id", "near_group", "width", "height"]
    known = {row["id"]: row for row in shards.columns(clean, columns).to_pylist()}
    groups = {row["id"]: row["group"] for row in atomic.read_csv(split_csv)}
    return [known[key] | {"group": groups[key]} for key in ids]


def main(
    models: Path, features: Path, clean: Path, split_csv: Path, history_csv: Path,
    metrics_json: Path, test: Path, report_html: Path,
) -> None:  # fmt: skip
    """Judge MODELS on the test set of SPLIT_CSV; write METRICS_JSON, REPORT_HTML, and the rest into
    TEST."""
    settings = params.load()
    examples = batches.read_examples(split_csv)
    history = read_history(history_csv)
    suffix, source, card = open_model(models, features, clean, examples, settings)
    judged = judge(suffix, source, card, examples)
    facts = facts_of_test(clean, split_csv, judged.ids)
    groups = [str(fact["group"]) for fact in facts]
    figures = figures_of(judged, groups, slices(facts, card)) | {"temperature": card.temperature}
    with atomic.replacing(test) as staged:
        staged.mkdir()
        write_predictions(staged / "predictions.csv", judged, groups)
        draw(staged, history, judged, clean, settings.evaluate.samples)
    atomic.write_text(metrics_json, json.dumps(figures, indent=2) + "\n")
    names = ("images", "model", "features", "head", "train")
    sections = {name: getattr(settings, name).model_dump() for name in names}
    page = Page(settings.dataset.name, sections, card, figures, test, clean, split_csv, any(groups))
    origin = tracking.provenance()
    data = {name: value for name, value in origin.items() if name.startswith("data.")}
    atomic.write_text(report_html, page.html(data))
    told = page.html({name: value for name, value in origin.items() if value})
    tracking.evaluation(settings, models, suffix, history, figures, test, told)
    print(f"evaluate: accuracy {figures['accuracy']:.4f} ({figures['correct']}/{figures['n']}; "
          f"95 %: {figures['accuracy.wilson_low']:.4f} to {figures['accuracy.wilson_high']:.4f}), "
          f"loss {figures['loss']:.4f}")  # fmt: skip


if __name__ == "__main__":
    stage.run(main)
