"""Predictions of a model on its test images, read from any predictions.csv or made by a model."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import read_split
from pipeline.experiments import dvc
from pipeline.inference.classifier import Classifier
from pipeline.network import views
from pipeline.stages.evaluate import predictions_csv
from pipeline.stages.evaluate.predictions_csv import NAME, PredictionRow

TRACKED = Path("reports/test", NAME)
CLEAN, SPLIT = Path("data/clean"), Path("data/split.csv")


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for one test image."""

    label: str
    predicted: str
    label_probability: float
    """Predicted probability of `label`, in 0..1."""
    group: str
    """Images of one group are not independent; "" for an image without a group."""


def load_predictions(name: str) -> dict[str, Prediction]:
    """Predictions by image id.

    Args:
        name: A folder with predictions.csv; a folder with a model, which is then run on the test
            set; an MLflow run's id; or a revision: a commit, branch or experiment.

    Raises:
        PipelineError: none of these exists, or it has no predictions.
    """
    folder = Path(name)
    if (folder / NAME).is_file():
        return parse_predictions((folder / NAME).read_text("utf-8", "replace"), name)
    if (folder / "model.json").is_file():
        return dict(_predict(folder))
    if re.fullmatch(r"[0-9a-f]{32}", name):
        from pipeline.tracking import store

        return parse_predictions(store.load_text(name, f"test/{NAME}"), f"MLflow run {name}")
    return parse_predictions(_read_revision(name), f"revision {name}")


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
        return {row.id: _convert(row) for row in predictions_csv.parse_predictions(text)}
    except (KeyError, ValueError, csv.Error) as error:
        raise PipelineError(f"{NAME} of {source} is damaged: evaluate that model again") from error


def _convert(row: PredictionRow) -> Prediction:
    label_probability = row.probabilities[row.label]
    if not 0 <= label_probability <= 1:  # refuses NaN, too
        raise ValueError(f"probability {label_probability!r} of image {row.id!r}")
    return Prediction(row.label, row.predicted, label_probability, row.group)


def _predict(folder: Path) -> Iterator[tuple[str, Prediction]]:
    """Run the model in `folder` on the test images of data/split.csv."""
    classifier = Classifier(folder)
    classes = classifier.card.classes
    rows = [row for row in read_split(SPLIT) if row.split == "test"]
    ids = [row.id for row in rows]
    images = views.Views(ids, views.EncodedImages(CLEAN, ids), classifier.card.preprocess)
    for row, probabilities in zip(rows, classifier.all_probabilities(images), strict=True):
        if not probabilities.isfinite().all():
            raise PipelineError(f"the model in {folder} gives a probability that is not a number")
        if row.label not in classes:
            raise PipelineError(f"the model in {folder} was not trained on class {row.label}")
        label_probability = float(probabilities[classes.index(row.label)])
        predicted = classes[int(probabilities.argmax())]
        yield row.id, Prediction(row.label, predicted, label_probability, row.group)
