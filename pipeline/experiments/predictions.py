"""Predictions of a model on its test images, read from any predictions.csv or made by a model."""

import csv
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

from pipeline.core import terminal
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.split_csv import read_split
from pipeline.core.unicode import to_nfc
from pipeline.experiments import dvc, dvc_results
from pipeline.inference import registered_models
from pipeline.stages.evaluate import figures_csv, predictions_csv
from pipeline.stages.evaluate.predictions_csv import NAME, TOP_CLASSES, PredictionRow
from pipeline.tracking import stale_stages

TRACKED = Path("reports/test", NAME)
CLEAN, SPLIT = Path("data/clean"), Path("data/split.csv")


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for one test image."""

    label: str
    predicted: str
    of_label: float
    """Probability of the label, in 0..1; NaN if it is not known."""
    probabilities: Mapping[str, float]
    """By class, in 0..1: of all, or of the most probable ones, the first first."""
    group: str
    """Images of one group are not independent; "" for an image without a group."""


@dataclass(frozen=True)
class ModelPredictions:
    """A model's predictions for its test images."""

    images: Mapping[str, Prediction]
    """By image id."""
    classes: frozenset[str]
    """All classes that the model knows."""

    @classmethod
    def of_all_classes(cls, images: Mapping[str, Prediction]) -> Self:
        """From predictions with the probabilities of all classes."""
        names = {name for prediction in images.values() for name in prediction.probabilities}
        return cls(images, frozenset(names))

    def among(self, classes: Collection[str], ids: Iterable[str]) -> list[Prediction]:
        """Its predictions for the images `ids` if it has to choose one of `classes`.

        Where not the probabilities of all classes are known, that of the label is NaN.

        Raises:
            PipelineError: of an image, only probabilities of other classes are known.
        """
        if self.classes <= set(classes):
            return [self.images[key] for key in ids]
        narrowed = [self._narrow(self.images[key], classes) for key in ids]
        if unknown := sum(not prediction.predicted for prediction in narrowed):
            raise PipelineError(
                f"{NAME} keeps the {TOP_CLASSES} most probable classes of an image, and of "
                f"{plural(unknown, 'image')} these are all unknown to the other model: train both "
                "on the same classes"
            )
        return narrowed

    def _narrow(self, prediction: Prediction, classes: Collection[str]) -> Prediction:
        """The prediction among `classes`; "" if that is not known."""
        of_all = prediction.probabilities
        common = {name: value for name, value in of_all.items() if name in classes}
        best = max(common, key=lambda name: common[name], default="")
        predicted = prediction.predicted if prediction.predicted in common else best
        total = math.fsum(common.values())
        of_label = prediction.of_label / total if total else 0.0
        is_complete = len(of_all) == len(self.classes)
        return replace(
            prediction, predicted=predicted, of_label=of_label if is_complete else math.nan
        )


def load_predictions(name: str) -> ModelPredictions:
    """Load the predictions of a model for its test images.

    Args:
        name: A folder with predictions.csv; a folder with a model, which is then run on the test
            set, or @champion likewise; an MLflow run's id; or a revision: a commit, branch or
            experiment.

    Raises:
        PipelineError: none of these exists, or it has no predictions.
    """
    folder = registered_models.find_folder(name)
    if folder.resolve() in {Path(path).resolve() for path in (TRACKED.parent, dvc_results.MODELS)}:
        _warn_if_stale("", name)
    if (folder / NAME).is_file():
        return parse_predictions(partial(_read_file, folder), name)
    if (folder / "model.json").is_file():
        return _predict(folder)
    if re.fullmatch(r"[0-9a-f]{32}", name):
        from pipeline.tracking import store

        return parse_predictions(
            lambda file: store.load_text(name, f"test/{file}"), f"MLflow run {name}"
        )
    tested = parse_predictions(partial(_read_revision, name), f"revision {name}")
    _warn_if_stale(name, name)
    return tested


def _read_file(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise PipelineError(f"{folder} has no {name}: evaluate that model again") from error


def _warn_if_stale(revision: str, name: str) -> None:
    if stale := dvc_results.stale_stages_at(revision):
        terminal.warn(
            f"{name} has results of an earlier state, not of its own params, data and code "
            f"({stale_stages.describe(stale)})"
        )


def _read_revision(name: str, file: str) -> str:
    from dvc import api

    with dvc.errors_as_sentences(
        f"no predictions of {name}",
        "name a folder, an MLflow run, a commit or an experiment (`dvc exp show` lists them) whose "
        "evaluation is in DVC's cache",
    ):
        return str(api.read(str(TRACKED.with_name(file)), rev=name))


def parse_predictions(read: Callable[[str], str], source: str) -> ModelPredictions:
    """Parse a predictions.csv, and classes.csv if that does not name all classes.

    Args:
        read: Returns the text of a file of the test result, by its name.
        source: Where the files are from, for the error message.

    Raises:
        PipelineError: a file is damaged or missing.
    """
    try:
        rows = predictions_csv.parse_predictions(read(NAME))
        images = {row.id: _convert(row) for row in rows}
        tested = ModelPredictions.of_all_classes(images)
        if any(row.may_lack_classes for row in rows):
            labels = figures_csv.parse_labels(read(figures_csv.CLASSES))
            tested = ModelPredictions(images, tested.classes | set(map(to_nfc, labels)))
        if unknown := {image.label for image in images.values()} - tested.classes:
            raise ValueError(f"{min(unknown)!r} is not a class of the model")
    except (KeyError, ValueError, csv.Error) as error:
        raise PipelineError(f"{NAME} of {source} is damaged: evaluate that model again") from error
    if len(images) < len(rows):
        raise PipelineError(f"{NAME} of {source} lists an image twice: evaluate that model again")
    return tested


def _convert(row: PredictionRow) -> Prediction:
    """Checks the probabilities, and that label and prediction are among the classes."""
    for name, value in (("its label", row.of_label), *row.probabilities.items()):
        if not 0 <= value <= 1:  # refuses NaN, too
            raise ValueError(f"probability {value!r} of {name!r} for image {row.id!r}")
    # Older versions took a class as it was spelt: one text may be in two Unicode forms.
    probabilities: dict[str, float] = {}
    for spelling, value in row.probabilities.items():
        name = to_nfc(spelling)
        probabilities[name] = probabilities.get(name, 0.0) + value
    label, predicted = to_nfc(row.label), to_nfc(row.predicted)
    if predicted not in probabilities or not (label in probabilities or row.may_lack_classes):
        raise ValueError(f"image {row.id!r} has a class without probabilities")
    of_label = probabilities.get(label, row.of_label)
    return Prediction(label, predicted, of_label, probabilities, row.group)


def _predict(folder: Path) -> ModelPredictions:
    """Run the model in `folder` on the test images in data/split.csv of classes that it knows."""
    from pipeline.inference.classifier import Classifier  # imports torch
    from pipeline.network import views

    classifier = Classifier(folder)
    classes = [to_nfc(name) for name in classifier.card.classes]
    number = {name: position for position, name in enumerate(classes)}
    test = [row for row in read_split(SPLIT) if row.split == "test"]
    rows = [row for row in test if to_nfc(row.label) in number]
    ids = [row.id for row in rows]
    images = views.Views(ids, views.EncodedImages(CLEAN, ids), classifier.card.preprocess)
    predictions = {}
    for row, probabilities in zip(rows, classifier.all_probabilities(images), strict=True):
        if not probabilities.isfinite().all():
            raise PipelineError(f"the model in {folder} gives a probability that is not a number")
        label = to_nfc(row.label)
        values, order = probabilities.sort(descending=True, stable=True)
        top = zip(order[:TOP_CLASSES].tolist(), values[:TOP_CLASSES].tolist(), strict=True)
        by_class = {classes[index]: value for index, value in top}
        predictions[row.id] = Prediction(
            label,
            classes[int(order[0])],
            float(probabilities[number[label]]),
            by_class,
            row.group,
        )
    return ModelPredictions(predictions, frozenset(classes))
