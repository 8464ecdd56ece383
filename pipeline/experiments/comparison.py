"""Two models on the same test images: is one better, or is it noise?"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import PipelineError
from pipeline.experiments.predictions import Prediction
from pipeline.stages.evaluate import intervals
from pipeline.stages.evaluate.intervals import Interval

SIGNIFICANT = 1 - intervals.CONFIDENCE


@dataclass(frozen=True)
class Difference:
    """Of an image on which exactly one of two models is right, or both are wrong differently."""

    id: str
    label: str
    one: str
    other: str


@dataclass(frozen=True)
class Comparison:
    """Of two models, `one` and `other`."""

    n: int
    """Test images of both."""
    apart: int
    """Test images of one of them alone, which do not count."""
    accuracy: tuple[float, float]
    gained: int
    """Images that `other` alone gets right."""
    lost: int
    """Images that `one` alone gets right."""
    interval: Interval
    """Of the difference of accuracy, by the paired bootstrap of groups."""
    p: float
    """By McNemar's exact test."""
    loss: tuple[float, float]
    """Log loss, in nats."""
    loss_interval: Interval
    """Of the difference of log loss."""
    differences: list[Difference]

    @property
    def difference(self) -> float:
        return self.accuracy[1] - self.accuracy[0]

    @property
    def real(self) -> bool:
        """Whether both tests say that there is a difference."""
        return self.p < SIGNIFICANT and not self.interval.low <= 0 <= self.interval.high

    @property
    def worse(self) -> bool:
        """Whether `other` is, and it is no noise."""
        return self.real and self.difference < 0

    def verdict(self, one: str, other: str) -> str:
        """In one sentence."""
        low, high = (100 * value for value in (self.interval.low, self.interval.high))
        found = (
            f"{other} has {100 * self.difference:+.1f} points of accuracy on {self.n} images "
            f"(95 %: {low:+.1f} to {high:+.1f}; {self.gained} gained, {self.lost} lost, "
            f"McNemar's p = {self.p:.2g})"
        )
        if not self.real:
            return f"No difference shown between {one} and {other}: {found}."
        better, worse = (other, one) if self.difference > 0 else (one, other)
        return f"{better} is better than {worse}: {found}."


def compare(one: Mapping[str, Prediction], other: Mapping[str, Prediction]) -> Comparison:
    """What the models say of the images that both were tested on.

    Raises:
        PipelineError: there are none, or their labels differ.
    """
    ids = sorted(one.keys() & other.keys())
    if not ids:
        raise PipelineError("the two were tested on different images: evaluate both on one split")
    renamed = [key for key in ids if one[key].label != other[key].label]
    if renamed:
        raise PipelineError(
            f"{len(renamed)} of the images have another label in each (such as {renamed[0][:12]}): "
            "they are not of the same data"
        )
    first, second = [one[key] for key in ids], [other[key] for key in ids]
    groups = [said.group for said in second]
    right = [np.array([said.answer == said.label for said in all_of]) for all_of in (first, second)]
    losses = [
        -np.log(np.maximum([said.chance for said in all_of], np.finfo(float).tiny))
        for all_of in (first, second)
    ]
    return Comparison(
        n=len(ids),
        apart=len(one.keys() ^ other.keys()),
        accuracy=(float(right[0].mean()), float(right[1].mean())),
        gained=int((right[1] & ~right[0]).sum()),
        lost=int((right[0] & ~right[1]).sum()),
        interval=intervals.difference(right[0].astype(float), right[1].astype(float), groups),
        p=intervals.mcnemar(right[0], right[1]),
        loss=(float(losses[0].mean()), float(losses[1].mean())),
        loss_interval=intervals.difference(losses[0], losses[1], groups),
        differences=[
            Difference(key, before.label, before.answer, after.answer)
            for key, before, after in zip(ids, first, second, strict=True)
            if before.answer != after.answer
        ],
    )


def table(found: Comparison) -> list[list[str]]:
    """Rows of what it is, of each model, and their difference with its interval."""
    spans = ((found.accuracy, found.interval), (found.loss, found.loss_interval))
    return [
        [
            name,
            f"{one:.4f}",
            f"{other:.4f}",
            f"{other - one:+.4f}",
            f"{span.low:+.4f} to {span.high:+.4f}",
        ]
        for name, ((one, other), span) in zip(("accuracy", "log loss"), spans, strict=True)
    ]
