"""Compare two models on the same test images, and test whether the difference is significant."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core import columns
from pipeline.core.errors import PipelineError
from pipeline.core.percentages import MIN_IMAGES
from pipeline.core.plurals import plural
from pipeline.experiments.predictions import ModelPredictions, Prediction
from pipeline.stages.evaluate import intervals
from pipeline.stages.evaluate.intervals import Groups, Interval, Right, Values
from pipeline.stages.evaluate.predictions_csv import NAME, TOP_CLASSES

MAX_NAMES = 30  # of classes, in a sentence
SIGNIFICANCE = 1 - intervals.CONFIDENCE


@dataclass(frozen=True)
class Disagreement:
    """A test image for which the two models predict different classes."""

    id: str
    label: str
    predicted_a: str
    predicted_b: str


@dataclass(frozen=True)
class Comparison:
    """Models A and B on the same test images. Differences are B's value less A's."""

    n: int
    """Test images of both models."""
    own_images: tuple[int, int]
    """Test images of only A and of only B, which are left out."""
    classes: Sequence[str]
    """Those that both models know, among which both choose."""
    own_classes: tuple[Sequence[str], Sequence[str]]
    """Those that only A and only B know."""
    own_answers: tuple[int, int]
    """Images for which A and B choose one of these, if they may."""
    own_right: tuple[int, int]
    """Test images of these classes that A and B classify rightly, among all that they know."""
    own_labelled: tuple[int, int]
    """All test images of these classes."""
    accuracy: tuple[float, float]
    gained: int
    """Images that only B classifies rightly."""
    lost: int
    """Images that only A classifies rightly."""
    accuracy_interval: Interval
    """Of the difference of accuracy, by the paired bootstrap of groups."""
    p: float
    """By McNemar's exact test."""
    loss: tuple[float, float] | None
    """Log loss, in nats; None if probabilities that it takes are not known."""
    loss_interval: Interval | None
    """Of the difference of log loss."""
    disagreements: list[Disagreement]

    @property
    def unshared(self) -> int:
        """Test images of only one of them."""
        return sum(self.own_images)

    @property
    def difference(self) -> float:
        """Of accuracy."""
        return self.accuracy[1] - self.accuracy[0]

    @property
    def is_significant(self) -> bool:
        """Whether both tests reject that the accuracies are equal."""
        interval = self.accuracy_interval
        return self.p < SIGNIFICANCE and not interval.low <= 0 <= interval.high

    @property
    def is_worse(self) -> bool:
        """Whether B is significantly worse than A."""
        return self.is_significant and self.difference < 0

    def verdict(self, a: str, b: str) -> str:
        """The result in one sentence; `a` and `b` are the models' names."""
        evidence = self._describe_evidence(a, b)
        if not self.is_significant:
            return f"No significant difference between {a} and {b}: {evidence}."
        better, worse = (b, a) if self.difference > 0 else (a, b)
        return f"{better} is better than {worse}: {evidence}."

    def remarks(self, a: str, b: str) -> list[str]:
        """What of the models is not compared, in sentences; `a` and `b` are the models' names."""
        remarks = []
        for name, classes, answers, right, labelled in zip(
            (a, b),
            self.own_classes,
            self.own_answers,
            self.own_right,
            self.own_labelled,
            strict=True,
        ):
            if classes:
                names = list_names(classes)
                remarks.append(
                    f"Only {name} knows {names}: both choose among {len(self.classes)} common "
                    f"classes here, which replaces {answers} answers of {name}."
                )
            if labelled:
                remarks.append(
                    f"{name} has {right} of {plural(labelled, 'test image')} of {names} right; the "
                    "other can have none."
                )
        if self.loss is None:
            remarks.append(
                f"Log loss is not compared: {NAME} keeps the {TOP_CLASSES} most probable classes "
                "of an image, and a choice among the common classes takes all probabilities."
            )
        for name, count in zip((a, b), self.own_images, strict=True):
            if count:
                images = plural(count, "test image")
                remarks.append(f"Left out: {images} that only {name} was tested on.")
        return remarks

    def _describe_evidence(self, a: str, b: str) -> str:
        images = plural(self.n, "image")
        if any(self.own_classes):
            images += f" of {len(self.classes)} common classes"
        tests = f"{self.gained} gained, {self.lost} lost, McNemar's p = {self.p:.2g}"
        if self.n < MIN_IMAGES:
            right_a, right_b = (round(accuracy * self.n) for accuracy in self.accuracy)
            return f"{b} has {right_b} of {images} right, {a} {right_a} ({tests})"
        interval = self.accuracy_interval
        if not interval.is_empty:
            ends = f"{self._points(interval.low)} to {self._points(interval.high)}"
            tests = f"95 %: {ends}; {tests}"
        points = self._points(self.difference)
        return f"{b} has {points} points of accuracy on {images} ({tests})"

    def _points(self, share: float) -> str:
        """Percentage points, with decimals enough for a single image."""
        decimals = max(1, math.ceil(math.log10(self.n)) - 2)
        return f"{round(100 * share, decimals) + 0.0:+.{decimals}f}"  # + 0.0: of -0 makes 0

    def rows(self) -> list[list[str]]:
        """Metric, A, B, difference and its interval, which equal results do not have."""
        metrics = [("accuracy", self.accuracy, self.accuracy_interval)]
        if self.loss is not None and self.loss_interval is not None:
            metrics.append(("log loss", self.loss, self.loss_interval))
        return [
            [
                name,
                f"{a:.4f}",
                f"{b:.4f}",
                f"{b - a:+.4f}",
                "–" if interval.is_empty else f"{interval.low:+.4f} to {interval.high:+.4f}",
            ]
            for name, (a, b), interval in metrics
        ]


@dataclass(frozen=True)
class PairedAnswers:
    """Models A and B on the same images, choosing among the classes that both know."""

    classes: Sequence[str]
    """Those that both know, by name."""
    ids: Sequence[str]
    """Of the images that both were tested on, sorted; the other fields are in this order."""
    of_a: Sequence[Prediction]
    of_b: Sequence[Prediction]
    right_a: Right
    """(N,) whether A classifies each image rightly."""
    right_b: Right
    groups: Groups
    """(N,) as B's test result has them."""


def pair_answers(a: ModelPredictions, b: ModelPredictions) -> PairedAnswers:
    """What two models answer for the images that both were tested on.

    If one model knows more classes, both have to choose among the common ones: with more to choose
    from, a model makes more mistakes on the same images.

    Raises:
        PipelineError: there are no such images, their labels differ, fewer than two classes are
            common, or it is not known what a model would choose among these.
    """
    classes = _common_classes(a, b)
    ids = _shared_ids(a.images, b.images)
    if len(classes) < 2:
        raise PipelineError(
            f"only one class, {classes[0]}, is known to both models: there is nothing "
            "to choose between"
        )
    of_a, of_b = (tested.among(set(classes), ids) for tested in (a, b))
    names = columns.texts([prediction.group for prediction in of_b])
    groups = intervals.number_groups(names)
    return PairedAnswers(classes, ids, of_a, of_b, _right(of_a), _right(of_b), groups)


def compare(a: ModelPredictions, b: ModelPredictions) -> Comparison:
    """Compare two models on the images that both were tested on.

    Raises:
        PipelineError: as `pair_answers`.
    """
    pairs = pair_answers(a, b)
    ids, right_a, right_b, groups = pairs.ids, pairs.right_a, pairs.right_b, pairs.groups
    losses_a, losses_b = _losses(pairs.of_a), _losses(pairs.of_b)
    own_of_a, own_of_b = _own_right(a, b), _own_right(b, a)
    has_losses = bool(np.isfinite(losses_a).all() and np.isfinite(losses_b).all())
    return Comparison(
        n=len(ids),
        own_images=(len(a.images.keys() - b.images.keys()), len(b.images.keys() - a.images.keys())),
        classes=pairs.classes,
        own_classes=(sorted(a.classes - b.classes), sorted(b.classes - a.classes)),
        own_answers=(
            sum(a.images[key].predicted not in b.classes for key in ids),
            sum(b.images[key].predicted not in a.classes for key in ids),
        ),
        own_right=(own_of_a[0], own_of_b[0]),
        own_labelled=(own_of_a[1], own_of_b[1]),
        accuracy=(float(right_a.mean()), float(right_b.mean())),
        gained=int((right_b & ~right_a).sum()),
        lost=int((right_a & ~right_b).sum()),
        accuracy_interval=intervals.difference(
            right_a.astype(float), right_b.astype(float), groups
        ),
        p=intervals.mcnemar(right_a, right_b),
        loss=(float(losses_a.mean()), float(losses_b.mean())) if has_losses else None,
        loss_interval=intervals.difference(losses_a, losses_b, groups) if has_losses else None,
        disagreements=[
            Disagreement(key, of_a.label, of_a.predicted, of_b.predicted)
            for key, of_a, of_b in zip(ids, pairs.of_a, pairs.of_b, strict=True)
            if of_a.predicted != of_b.predicted
        ],
    )


def _own_right(tested: ModelPredictions, other: ModelPredictions) -> tuple[int, int]:
    """Test images of classes that `other` does not know: the right answers, and all."""
    own = [image for image in tested.images.values() if image.label not in other.classes]
    return sum(image.predicted == image.label for image in own), len(own)


def _common_classes(a: ModelPredictions, b: ModelPredictions) -> list[str]:
    """Those that both know, by name."""
    classes = sorted(a.classes & b.classes)
    if a.images and b.images and not classes:
        known_a, known_b = (list_names(sorted(tested.classes)) for tested in (a, b))
        raise PipelineError(
            f"no class is known to both models: the first knows {known_a}, the second {known_b}"
        )
    return classes


def list_names(names: Sequence[str]) -> str:
    """Names with commas; of many only the first."""
    more = [f"and {len(names) - MAX_NAMES:,} more"] if len(names) > MAX_NAMES else []
    return ", ".join([*names[:MAX_NAMES], *more])


def _shared_ids(a: Mapping[str, Prediction], b: Mapping[str, Prediction]) -> list[str]:
    ids = sorted(a.keys() & b.keys())
    if not ids:
        raise PipelineError(
            "the two models were tested on different images: compare the folders of "
            "the models, which are run on the test images in data/split.csv"
        )
    relabelled = [key for key in ids if a[key].label != b[key].label]
    if relabelled:
        raise PipelineError(
            f"{len(relabelled)} test images have different labels for the two models (such as "
            f"{relabelled[0][:12]}): compare the folders of the models, which are run on the "
            "labels in data/split.csv"
        )
    return ids


def _right(predictions: Sequence[Prediction]) -> Right:
    return np.array([prediction.predicted == prediction.label for prediction in predictions])


def _losses(predictions: Sequence[Prediction]) -> Values:
    """Log loss of each image, in nats; NaN where it is not known."""
    probabilities = [prediction.of_label for prediction in predictions]
    losses: Values = -np.log(np.maximum(probabilities, np.finfo(float).tiny))
    return losses
