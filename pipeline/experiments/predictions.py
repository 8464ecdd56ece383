"""Predictions of a model on its test images, read from any predictions.csv or made by a model."""

import csv
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import terminal
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import read_split
from pipeline.experiments import dvc, dvc_results
from pipeline.inference.classifier import Classifier
from pipeline.network import views
from pipeline.stages.evaluate import predictions_csv
from pipeline.stages.evaluate.predictions_csv import NAME, PredictionRow
from pipeline.tracking import stale_stages

TRACKED = Path("reports/test", NAME)
CLEAN, SPLIT = Path("data/clean"), Path("data/split.csv")


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for one test image."""

    label: str
    predicted: str
    probabilities: Mapping[str, float]
    """By class, in 0..1."""
    group: str
    """Images of one group are not independent; "" for an image without a group."""

    def among(self, classes: Collection[str]) -> "Prediction":
        """The prediction of a model that has to choose one of `classes`, which it knows."""
        if self.probabilities.keys() <= set(classes):
            return self
        common = {name: value for name, value in self.probabilities.items() if name in classes}
        total = sum(common.values())
        scaled = {name: value / total if total else 0.0 for name, value in common.items()}
        best = max(common, key=lambda name: common[name])
        predicted = self.predicted if self.predicted in common else best
        return Prediction(self.label, predicted, scaled, self.group)


def load_predictions(name: str) -> dict[str, Prediction]:
    """Predictions by image id.

    Args:
        name: A folder with predictions.csv; a folder with a model, which is then run on the test
            set; an MLflow run's id; or a revision: a commit, branch or experiment.

    Raises:
        PipelineError: none of these exists, or it has no predictions.
    """
    folder = Path(name)
    if folder.resolve() in {Path(path).resolve() for path in (TRACKED.parent, dvc_results.MODELS)}:
        _warn_if_stale("", name)
    if (folder / NAME).is_file():
        return parse_predictions((folder / NAME).read_text("utf-8", "replace"), name)
    if (folder / "model.json").is_file():
        return dict(_predict(folder))
    if re.fullmatch(r"[0-9a-f]{32}", name):
        from pipeline.tracking import store

        return parse_predictions(store.load_text(name, f"test/{NAME}"), f"MLflow run {name}")
    text = _read_revision(name)
    _warn_if_stale(name, name)
    return parse_predictions(text, f"revision {name}")


def _warn_if_stale(revision: str, name: str) -> None:
    if stale := dvc_results.stale_stages_at(revision):
        terminal.warn(
            f"{name} has results of an earlier state, not of its own params, data and code "
            f"({stale_stages.describe(stale)})"
        )


def _read_revision(name: str) -> str:
    from dvc import api

    with dvc.errors_as_sentences(
        f"no predictions of {name}",
        "name a folder, an MLflow run, a commit or an experiment (`dvc exp show` lists them) whose "
        "evaluation is in DVC's cache",
    ):
        return str(api.read(str(TRACKED), rev=name))


def parse_predictions(text: str, source: str) -> dict[str, Prediction]:
    """Predictions by image id, from the text of a predictions.csv.

    Args:
        source: Where the text is from, for the error message.

    Raises:
        PipelineError: the text is damaged.
    """
    try:
        rows = predictions_csv.parse_predictions(text)
        predictions = {row.id: _convert(row) for row in rows}
    except (KeyError, ValueError, csv.Error) as error:
        raise PipelineError(f"{NAME} of {source} is damaged: evaluate that model again") from error
    if len(predictions) < len(rows):
        raise PipelineError(f"{NAME} of {source} lists an image twice: evaluate that model again")
    return predictions


def _convert(row: PredictionRow) -> Prediction:
    """Checks the probabilities, and that label and prediction are among the classes."""
    for name, value in row.probabilities.items():
        if not 0 <= value <= 1:  # refuses NaN, too
            raise ValueError(f"probability {value!r} of {name!r} for image {row.id!r}")
    # Older versions took a class as it was spelt: one text may be in two Unicode forms.
    probabilities: dict[str, float] = {}
    for spelling, value in row.probabilities.items():
        name = _normalize(spelling)
        probabilities[name] = probabilities.get(name, 0.0) + value
    label, predicted = _normalize(row.label), _normalize(row.predicted)
    if not {label, predicted} <= probabilities.keys():
        raise ValueError(f"image {row.id!r} has a class without probabilities")
    return Prediction(label, predicted, probabilities, row.group)


def _normalize(label: str) -> str:
    return unicodedata.normalize("NFC", label)


def _predict(folder: Path) -> Iterator[tuple[str, Prediction]]:
    """Run the model in `folder` on the test images in data/split.csv of classes that it knows."""
    classifier = Classifier(folder)
    classes = [_normalize(name) for name in classifier.card.classes]
    test = [row for row in read_split(SPLIT) if row.split == "test"]
    rows = [row for row in test if _normalize(row.label) in classes]
    ids = [row.id for row in rows]
    images = views.Views(ids, views.EncodedImages(CLEAN, ids), classifier.card.preprocess)
    for row, probabilities in zip(rows, classifier.all_probabilities(images), strict=True):
        if not probabilities.isfinite().all():
            raise PipelineError(f"the model in {folder} gives a probability that is not a number")
        predicted = classes[int(probabilities.argmax())]
        by_class = dict(zip(classes, probabilities.tolist(), strict=True))
        yield row.id, Prediction(_normalize(row.label), predicted, by_class, row.group)
