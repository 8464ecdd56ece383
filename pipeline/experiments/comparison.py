"""Compare two models on the same test images, and test whether the difference is significant."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import PipelineError
from pipeline.core.percentages import MIN_IMAGES
from pipeline.experiments.predictions import Prediction
from pipeline.stages.evaluate import intervals
from pipeline.stages.evaluate.intervals import Interval, Right, Values

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
    unshared: int
    """Test images of only one of them, which are left out."""
    accuracy: tuple[float, float]
    gained: int
    """Images that only B classifies rightly."""
    lost: int
    """Images that only A classifies rightly."""
    accuracy_interval: Interval
    """Of the difference of accuracy, by the paired bootstrap of groups."""
    p: float
    """By McNemar's exact test."""
    loss: tuple[float, float]
    """Log loss, in nats."""
    loss_interval: Interval
    """Of the difference of log loss."""
    disagreements: list[Disagreement]

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

    def _describe_evidence(self, a: str, b: str) -> str:
        tests = f"{self.gained} gained, {self.lost} lost, McNemar's p = {self.p:.2g}"
        if self.n < MIN_IMAGES:
            right_a, right_b = (round(accuracy * self.n) for accuracy in self.accuracy)
            return f"{b} has {right_b} of {self.n} images right, {a} {right_a} ({tests})"
        interval = self.accuracy_interval
        if not interval.is_empty:
            ends = f"{self._points(interval.low)} to {self._points(interval.high)}"
            tests = f"95 %: {ends}; {tests}"
        points = self._points(self.difference)
        return f"{b} has {points} points of accuracy on {self.n} images ({tests})"

    def _points(self, share: float) -> str:
        """Percentage points, with decimals enough for a single image."""
        decimals = max(1, math.ceil(math.log10(self.n)) - 2)
        return f"{round(100 * share, decimals) + 0.0:+.{decimals}f}"  # + 0.0: of -0 makes 0

    def rows(self) -> list[list[str]]:
        """Metric, A, B, difference and its interval, which equal results do not have."""
        metrics = (
            ("accuracy", self.accuracy, self.accuracy_interval),
            ("log loss", self.loss, self.loss_interval),
        )
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


def compare(a: Mapping[str, Prediction], b: Mapping[str, Prediction]) -> Comparison:
    """Compare two models on the images that both were tested on; predictions by image id.

    Raises:
        PipelineError: there are no such images, or their labels differ.
    """
    ids = _shared_ids(a, b)
    predictions_a, predictions_b = [a[key] for key in ids], [b[key] for key in ids]
    right_a, right_b = _right(predictions_a), _right(predictions_b)
    losses_a, losses_b = _losses(predictions_a), _losses(predictions_b)
    groups = [prediction.group for prediction in predictions_b]
    return Comparison(
        n=len(ids),
        unshared=len(a.keys() ^ b.keys()),
        accuracy=(float(right_a.mean()), float(right_b.mean())),
        gained=int((right_b & ~right_a).sum()),
        lost=int((right_a & ~right_b).sum()),
        accuracy_interval=intervals.difference(
            right_a.astype(float), right_b.astype(float), groups
        ),
        p=intervals.mcnemar(right_a, right_b),
        loss=(float(losses_a.mean()), float(losses_b.mean())),
        loss_interval=intervals.difference(losses_a, losses_b, groups),
        disagreements=[
            Disagreement(key, a[key].label, a[key].predicted, b[key].predicted)
            for key in ids
            if a[key].predicted != b[key].predicted
        ],
    )


def _shared_ids(a: Mapping[str, Prediction], b: Mapping[str, Prediction]) -> list[str]:
    ids = sorted(a.keys() & b.keys())
    if not ids:
        raise PipelineError(
            "the two models were tested on different images: evaluate both on the same split"
        )
    relabelled = [key for key in ids if a[key].label != b[key].label]
    if relabelled:
        raise PipelineError(
            f"{len(relabelled)} test images have different labels for the two models (such as "
            f"{relabelled[0][:12]}): they are of different data sets"
        )
    return ids


def _right(predictions: Sequence[Prediction]) -> Right:
    return np.array([prediction.predicted == prediction.label for prediction in predictions])


def _losses(predictions: Sequence[Prediction]) -> Values:
    """Log loss of each image, in nats."""
    probabilities = [prediction.label_probability for prediction in predictions]
    losses: Values = -np.log(np.maximum(probabilities, np.finfo(float).tiny))
    return losses
