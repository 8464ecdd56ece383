"""Which classes are taken for which."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.stages.evaluate.probabilities import Labels

MAX_LEADERS = 3  # named in a sentence
MAX_CLASSES = 100  # in a matrix of all classes
MAX_CONFUSED = 30  # in a matrix of some of more classes


@dataclass(frozen=True)
class Confusion:
    """A kind of mistake."""

    label: str
    predicted: str
    count: int
    """Images."""


@dataclass(frozen=True)
class ConfusionMatrix:
    """Counts of the classes that are most often confused, or of all."""

    counts: npt.NDArray[np.int64]
    """(C, C) Images: rows are true classes, columns predicted ones."""
    classes: Sequence[str]
    images: npt.NDArray[np.int64]
    """(C,) Test images of each class, also those taken for a class that is left out."""
    total: int
    """Classes of the model."""

    @property
    def title(self) -> str:
        """Which classes it shows, "" if all."""
        count = len(self.classes)
        return "" if count == self.total else f"the {count} most confused of {self.total} classes"


def count_confusions(labels: Labels, predicted: Labels, classes: Sequence[str]) -> list[Confusion]:
    """All kinds of mistakes, the most frequent first; equally frequent ones by name."""
    pairs, counts = _count_mistakes(labels, predicted)
    confusions = [
        Confusion(classes[label], classes[other], count)
        for (label, other), count in zip(pairs.tolist(), counts.tolist(), strict=True)
    ]
    return sorted(confusions, key=lambda kind: (-kind.count, kind.label, kind.predicted))


def confusion_matrix(
    labels: Labels, predicted: Labels, classes: Sequence[str], most: int = MAX_CLASSES
) -> ConfusionMatrix:
    """Counts of all classes, or of the `MAX_CONFUSED` most often confused of more than `most`."""
    numbers = np.arange(len(classes))
    if len(classes) > most:
        numbers = _most_confused(labels, predicted)
    position = np.full(len(classes), -1)
    position[numbers] = np.arange(len(numbers))
    rows, columns = position[labels], position[predicted]
    inside = (rows >= 0) & (columns >= 0)
    counts = np.zeros((len(numbers), len(numbers)), np.int64)
    np.add.at(counts, (rows[inside], columns[inside]), 1)
    images = np.bincount(labels, minlength=len(classes))[numbers]
    return ConfusionMatrix(
        counts, [classes[number] for number in numbers.tolist()], images, len(classes)
    )


def _most_confused(labels: Labels, predicted: Labels) -> Labels:
    """Numbers, in their order, of the classes of the most frequent mistakes."""
    pairs, counts = _count_mistakes(labels, predicted)
    frequent = pairs[np.argsort(-counts, kind="stable")].ravel()
    _, first = np.unique(frequent, return_index=True)
    numbers: Labels = np.sort(frequent[np.sort(first)][:MAX_CONFUSED])
    return numbers if len(numbers) else np.arange(MAX_CONFUSED)


def _count_mistakes(
    labels: Labels, predicted: Labels
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(K, 2) Pairs of true and predicted class, and (K,) the images of each."""
    wrong = labels != predicted
    pairs, counts = np.unique(
        np.column_stack([labels[wrong], predicted[wrong]]), axis=0, return_counts=True
    )
    return pairs, counts


def describe_most_frequent(confusions: Sequence[Confusion]) -> str:
    """The most frequent kind of mistake in a sentence, and all that are as frequent."""
    if not confusions:
        return "It makes no mistake on them."
    count = confusions[0].count
    leaders = [confusion for confusion in confusions if confusion.count == count]
    times = "once" if count == 1 else f"{count} times"
    if len(leaders) > MAX_LEADERS:
        return f"{len(leaders)} pairs of classes are confused most often: {times} each."
    mistakes = " and ".join(f"{leader.label} for {leader.predicted}" for leader in leaders)
    return f"It most often takes {mistakes} ({times}{' each' if len(leaders) > 1 else ''})."
