"""What a model said of its test images: predictions.csv, wherever it is kept."""

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
    """One test image, and what a model says of it."""

    label: str
    answer: str
    chance: float
    """Of the label, in 0..1."""
    group: str
    """Of images that belong together, "" where it stands alone."""


def find(name: str) -> dict[str, Prediction]:
    """The predictions of an experiment, a revision, an MLflow run, or a folder, by image.

    Args:
        name: A folder with predictions.csv, or with a model, which is then run over the test set;
            an MLflow run's id; or what DVC takes for a revision: a commit, branch or experiment.

    Raises:
        PipelineError: there is no such thing, or it has no predictions.
    """
    folder = Path(name)
    if (folder / NAME).is_file():
        return parse((folder / NAME).read_text("utf-8", "replace"), name)
    if (folder / "model.json").is_file():
        return dict(_of_model(folder))
    if re.fullmatch(r"[0-9a-f]{32}", name):
        from pipeline.tracking import store

        return parse(store.load_text(name, f"test/{NAME}"), f"MLflow run {name}")
    return parse(_of_revision(name), f"revision {name}")


def _of_revision(name: str) -> str:
    from dvc import api

    with dvc.errors_as_sentences(
        f"no predictions of {name}",
        "name a folder, an MLflow run, a commit or an experiment (`dvc exp show` lists them) whose "
        "evaluation is in DVC's cache",
    ):
        return str(api.read(str(TRACKED), rev=name))


def parse(text: str, source: str) -> dict[str, Prediction]:
    """By image.

    Raises:
        PipelineError: it is not what evaluate writes.
    """
    try:
        return {row.id: _prediction(row) for row in predictions_csv.parse_predictions(text)}
    except (KeyError, ValueError, csv.Error) as error:
        raise PipelineError(f"{NAME} of {source} is damaged: evaluate that model again") from error


def _prediction(row: PredictionRow) -> Prediction:
    probability = row.probabilities[row.label]
    if not 0 <= probability <= 1:  # true of NaN too
        raise ValueError(f"probability {probability!r} of image {row.id!r}")
    return Prediction(row.label, row.predicted, probability, row.group)


def _of_model(folder: Path) -> Iterator[tuple[str, Prediction]]:
    classifier = Classifier(folder)
    names = classifier.card.classes
    rows = [row for row in read_split(SPLIT) if row.split == "test"]
    ids = [row.id for row in rows]
    seen = views.Views(ids, views.EncodedImages(CLEAN, ids), classifier.card.preprocess)
    for row, found in zip(rows, classifier.all_probabilities(seen), strict=True):
        if row.label not in names:
            raise PipelineError(f"the model in {folder} does not know the class {row.label}")
        chance = float(found[names.index(row.label)])
        answer = names[int(found.argmax())]
        yield row.id, Prediction(row.label, answer, chance, row.group)
