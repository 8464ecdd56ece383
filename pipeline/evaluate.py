"""Stage evaluate: how good the model is on the test set, and where it fails."""

import json
from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from pipeline import (
    atomic,
    batches,
    calibration,
    charts,
    embedding,
    images,
    metrics,
    params,
    shards,
    stage,
    views,
)  # fmt: skip
from pipeline.charts import Sample
from pipeline.errors import PipelineError
from pipeline.explain import Explainer, overlay
from pipeline.judged import Judged, Opened, judge, open_model
from pipeline.metrics import Figures, Selected
from pipeline.model import Card
from pipeline.report import Page
from pipeline.tracking import origin, record
from pipeline.tracking.record import Outcome
from pipeline.training import records

MOST_SOURCES = 8  # folders, and licences, of which the accuracy is told


def slices(facts: Sequence[dict[str, Any]], card: Card) -> dict[str, Selected]:
    """Images that may be harder or easier than the rest, by name.

    Args:
        facts: Of the test images: near_group, width, height, label, name, licence.
    """
    near = np.array([fact["near_group"] is not None for fact in facts])
    least = card.preprocess.resize
    small = np.array([min(fact["width"], fact["height"]) < least for fact in facts])
    pairs = {"near_duplicates": near, "no_near_duplicates": ~near, "enlarged": small,
             "not_enlarged": ~small}  # fmt: skip
    for what, source in (("folder", _folder), ("licence", itemgetter("licence"))):
        sources = np.array([source(fact) or "none" for fact in facts])
        names, counts = np.unique(sources, return_counts=True)
        for place in np.argsort(-counts, kind="stable")[:MOST_SOURCES]:
            pairs[f"{what} {names[place]}"] = sources == names[place]
    return {name: found for name, found in pairs.items() if 0 < found.sum() < len(facts)}


def _folder(fact: dict[str, Any]) -> str:
    """What lies between the class folder and the image: of a camera, say, or of a visit."""
    folders = PurePosixPath(fact["name"]).parent.parts
    return "/".join(folders[folders.index(fact["label"]) + 1 :]) if fact["label"] in folders else ""


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
    directory: Path,
    history: list[dict[str, float]],
    opened: Opened,
    judged: Judged,
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


def draw_embedding(directory: Path, judged: Judged) -> None:
    """The map of (at most `embedding.MOST`) test images, as a picture and as points."""
    places = embedding.mapped(judged.embedding[: embedding.MOST])
    labels, answers = judged.labels[: embedding.MOST], judged.answers[: embedding.MOST]
    charts.save(charts.embedding(places, labels, answers, judged.classes),
                directory / "embedding.png")  # fmt: skip
    rows = [
        (key, judged.classes[label], judged.classes[answer], f"{x:.4f}", f"{y:.4f}")
        for key, label, answer, (x, y) in zip(judged.ids, labels, answers, places, strict=False)
    ]
    atomic.write_csv(directory / "embedding.csv", ["id", "label", "predicted", "x", "y"], rows)


def draw_explained(directory: Path, opened: Opened, judged: Judged, clean: Path) -> None:
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


def facts_of_test(clean: Path, split_csv: Path, ids: Sequence[str]) -> list[dict[str, Any]]:
    """What the clean shards say of the images `ids`, and their group of split.csv."""
    columns = ["id", "near_group", "width", "height", "label", "name", "licence"]
    known = {row["id"]: row for row in shards.columns(clean, columns).to_pylist()}
    groups = {row["id"]: row["group"] for row in atomic.read_csv(split_csv)}
    return [known[key] | {"group": groups[key]} for key in ids]


def main(
    models: Path, features: Path, clean: Path, split_csv: Path, history_csv: Path,
    metrics_json: Path, test: Path, report_html: Path,
) -> None:  # fmt: skip
    """Judge MODELS on the test set; write METRICS_JSON, REPORT_HTML, and the rest into TEST."""
    settings, history = params.load(), records.read(history_csv)
    examples = batches.read_examples(split_csv)
    opened = open_model(models, features, clean, examples, settings.device)
    judged, card = judge(opened, examples), opened.card
    facts = facts_of_test(clean, split_csv, judged.ids)
    groups = [str(fact["group"]) for fact in facts]
    figures = figures_of(judged, groups, slices(facts, card)) | {"temperature": card.temperature}
    with atomic.replacing(test) as staged:
        staged.mkdir()
        write_predictions(staged / "predictions.csv", judged, groups)
        draw(staged, history, opened, judged, clean, settings.evaluate.samples)
    atomic.write_text(metrics_json, json.dumps(figures, indent=2) + "\n")
    names = ("images", "model", "features", "head", "train")
    shown = {name: getattr(settings, name).model_dump() for name in names}
    page = Page(settings.dataset.name, shown, card, figures, test, clean, split_csv, any(groups))
    tags = origin.everything(card.fingerprint)
    atomic.write_text(report_html, page.html(origin.of_data(tags)))
    record.evaluation(Outcome(
        settings.flat(), tags, origin.files(tags[origin.COMMIT]), models,
        lambda: opened.trained, history, history_csv.with_name("augmented.png"), split_csv,
        figures, test, page.html(origin.told(tags)),
    ))  # fmt: skip
    print(f"evaluate: accuracy {figures['accuracy']:.4f} ({figures['correct']}/{figures['n']}; "
          f"95 %: {figures['accuracy.wilson_low']:.4f} to {figures['accuracy.wilson_high']:.4f}), "
          f"loss {figures['loss']:.4f}")  # fmt: skip


if __name__ == "__main__":
    stage.run(main)
