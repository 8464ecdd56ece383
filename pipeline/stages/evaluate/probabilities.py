"""Probabilities of the test images, reduced to what figures need while the scores come in."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.stages.evaluate.class_scores import ClassScores, Scores
from pipeline.stages.evaluate.predictions_csv import TOP_CLASSES

BLOCK = 4_000_000  # scores at a time: 32 MB in float64

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageProbabilities:
    """Of each of N images, at one temperature."""

    predicted: Labels
    """(N,) The most probable class."""
    of_predicted: Floats
    """(N,) Its probability."""
    of_label: Floats
    """(N,) The probability of the true class."""


@dataclass(frozen=True)
class Normaliser:
    """What turns the scores of one class into its probabilities."""

    temperature: float
    largest: Floats
    """(N,) The largest score of each image, at this temperature."""
    total: Floats
    """(N,) The sum of the exponentials."""

    def probabilities(self, scores: Scores) -> Floats:
        """(N,) Probabilities from the scores (N,) of a class: the column of their softmax."""
        values: Floats = np.exp(scores.astype(np.float64) / self.temperature - self.largest)
        return values / self.total


@dataclass(frozen=True)
class TopClasses:
    """The most probable classes of each image, the first first; equal ones in their order."""

    classes: Labels
    """(N, K) K is `TOP_CLASSES`, or the number of classes if they are fewer."""
    probabilities: Floats
    """(N, K)"""

    @property
    def count(self) -> int:
        """K."""
        return int(self.classes.shape[1])


@dataclass(frozen=True)
class Reduced:
    """Probabilities of N images, without their (N, classes) matrix."""

    as_trained: ImageProbabilities
    """Before calibration."""
    calibrated: ImageProbabilities
    """At the model's temperature, as `pipeline predict` prints them."""
    top: TopClasses
    normaliser: Normaliser
    """Of the calibrated probabilities."""


def reduce_scores(
    batches: Iterable[Scores], labels: Labels, temperature: float, class_scores: ClassScores
) -> Reduced:
    """Reduce the scores (B, classes) of all images, in order; `class_scores` gets them, too."""
    parts, position = list[Reduced](), 0
    for scores in _blocks(batches):
        class_scores.append(scores)
        of_block = labels[position : position + len(scores)]
        parts.append(_reduce_block(scores, of_block, temperature))
        position += len(scores)
    return _join(parts, temperature)


def _blocks(batches: Iterable[Scores]) -> Iterator[Scores]:
    """Join batches up to `BLOCK` scores: numpy is slow on a few rows."""
    waiting = list[Scores]()
    for batch in batches:
        waiting.append(batch)
        if sum(map(np.size, waiting)) >= BLOCK:
            yield np.concatenate(waiting)
            waiting.clear()
    if waiting:
        yield np.concatenate(waiting)


def _reduce_block(scores: Scores, labels: Labels, temperature: float) -> Reduced:
    as_trained, _ = _softmax(scores, 1.0)
    of_images = _of_images(as_trained, labels)
    del as_trained
    calibrated, normaliser = _softmax(scores, temperature)
    return Reduced(of_images, _of_images(calibrated, labels), _top(calibrated), normaliser)


def _softmax(scores: Scores, temperature: float) -> tuple[Floats, Normaliser]:
    """(N, classes) Probabilities, as scipy.special.softmax computes them."""
    values = scores.astype(np.float64) / temperature
    largest = values.max(axis=1)
    values = np.exp(values - largest[:, None])
    total = values.sum(axis=1)
    values /= total[:, None]
    return values, Normaliser(temperature, largest, total)


def _of_images(probabilities: Floats, labels: Labels) -> ImageProbabilities:
    of_label = probabilities[np.arange(len(labels)), labels]
    return ImageProbabilities(probabilities.argmax(axis=1), probabilities.max(axis=1), of_label)


def _top(probabilities: Floats) -> TopClasses:
    count = min(TOP_CLASSES, probabilities.shape[1])
    if count == probabilities.shape[1]:
        classes = np.argsort(-probabilities, axis=1, kind="stable")
        return TopClasses(classes, np.take_along_axis(probabilities, classes, axis=1))
    candidates = np.sort(np.argpartition(-probabilities, count - 1, axis=1)[:, :count], axis=1)
    of_candidates = np.take_along_axis(probabilities, candidates, axis=1)
    # A partition takes any of the classes that tie for the last place.
    lowest = of_candidates.min(axis=1)
    for row in np.flatnonzero((probabilities >= lowest[:, None]).sum(axis=1) > count):
        candidates[row] = np.sort(np.argsort(-probabilities[row], kind="stable")[:count])
    of_candidates = np.take_along_axis(probabilities, candidates, axis=1)
    order = np.argsort(-of_candidates, axis=1, kind="stable")
    return TopClasses(
        np.take_along_axis(candidates, order, axis=1),
        np.take_along_axis(of_candidates, order, axis=1),
    )


def _join(parts: Sequence[Reduced], temperature: float) -> Reduced:
    return Reduced(
        _join_images([part.as_trained for part in parts]),
        _join_images([part.calibrated for part in parts]),
        TopClasses(
            np.concatenate([part.top.classes for part in parts]),
            np.concatenate([part.top.probabilities for part in parts]),
        ),
        Normaliser(
            temperature,
            np.concatenate([part.normaliser.largest for part in parts]),
            np.concatenate([part.normaliser.total for part in parts]),
        ),
    )


def _join_images(parts: Sequence[ImageProbabilities]) -> ImageProbabilities:
    return ImageProbabilities(
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.of_predicted for part in parts]),
        np.concatenate([part.of_label for part in parts]),
    )
