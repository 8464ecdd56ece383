"""The images of the data set, by their features: those that train, and those that test."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.commands.drift.sample import Answers, Rows, Sample
from pipeline.core import columns
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import read_split
from pipeline.inference.pooled_features import Features, open_features
from pipeline.network import feature_store, scoring
from pipeline.network.examples import Examples, read_examples
from pipeline.network.feature_store import Source
from pipeline.params import DeviceParams
from pipeline.stages.evaluate.intervals import Groups, Right, number_groups
from pipeline.stages.evaluate.loaded_network import LoadedNetwork, load_network

MAX_IMAGES = 5000  # of the training images, and of the test images
MAX_BYTES = 2**28  # of the features of each


@dataclass(frozen=True)
class DataFolders:
    """Outputs of the stages."""

    clean: Path = Path("data/clean")
    split_csv: Path = Path("data/split.csv")
    features: Path = Path("data/features")
    models: Path = Path("models")


class KnownImages:
    """The images of split.csv with their features."""

    def __init__(self, folders: DataFolders) -> None:
        """
        Raises:
            PipelineError: no features are stored, or a file is missing or damaged.
        """
        self.examples: Examples = read_examples(folders.split_csv, folders.clean)
        self._features: Features = open_features(folders.features, self.examples)
        names = columns.fill_empty(read_split(folders.split_csv).groups, self.examples.ids)
        self._groups: Groups = number_groups(names)

    def rows(self, *splits: str) -> Rows:
        """Rows of some splits, thinned.

        Raises:
            PipelineError: there are none.
        """
        rows = np.sort(np.concatenate([self.examples.rows(split) for split in splits]))
        if not len(rows):
            names = " or ".join(splits)
            raise PipelineError(f"there are no {names} images to compare new ones with")
        return self.thin(rows)

    def thin(self, rows: Rows) -> Rows:
        """Some of many rows."""
        return self._features.thin(rows, MAX_IMAGES, MAX_BYTES)

    @property
    def width(self) -> int:
        """Number of features of an image."""
        return int(self._features.read(self.rows("train")[:1]).shape[1])

    def sample(self, rows: Rows) -> Sample:
        """These images, with their labels."""
        return Sample(self._features.read_apart(rows), self.groups(rows), self.classes(rows))

    def groups(self, rows: Rows) -> Groups:
        """Of these images."""
        return self._groups[rows]

    def classes(self, rows: Rows) -> list[str]:
        """The labels of these images."""
        labels = self.examples.labels.numpy()[rows].tolist()
        return [self.examples.classes[label] for label in labels]


class TrainedModel:
    """The model, and its answers from features."""

    def __init__(self, folders: DataFolders, known: KnownImages, device: DeviceParams) -> None:
        """
        Raises:
            PipelineError: there is no model, or the features are not those that it was trained on.
        """
        self.network: LoadedNetwork = load_network(folders.models, folders.features, device)
        self._source: Source = feature_store.open_source(
            folders.features, folders.clean, None, known.examples, self.network.prefix
        )
        if self.network.card.classes != known.examples.classes:
            raise PipelineError(
                f"{folders.models} has other classes than {folders.split_csv}: run `dvc repro` "
                "first"
            )

    def answer_known(self, rows: Rows) -> Answers:
        """What it says of images of the data set."""
        return self.answer(self._source, rows)

    def answer(self, source: Source, rows: Rows) -> Answers:
        """What it says of images whose features `source` has."""
        best: list[int] = []
        confidence: list[float] = []
        for probabilities in self._probabilities(source, rows):
            values, classes = probabilities.max(dim=1)
            best += classes.tolist()
            confidence += values.tolist()
        names = self.network.card.classes
        return Answers([names[number] for number in best], np.array(confidence))

    def _probabilities(self, source: Source, rows: Rows) -> Iterator[Tensor]:
        for scores in scoring.score_batches(self.network.trained, source, rows):
            yield torch.softmax(scores.double() / self.network.card.temperature, dim=1)


def right_answers(answers: Answers, labels: list[str]) -> Right:
    """(N,) Whether each answer is the label."""
    return np.array([a == b for a, b in zip(answers.classes, labels, strict=True)], bool)
