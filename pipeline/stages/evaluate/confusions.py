"""Which classes are taken for which."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.stages.evaluate.predictions_csv import PredictionRow

MAX_LEADERS = 3  # named in a sentence


@dataclass(frozen=True)
class Confusion:
    """A kind of mistake."""

    label: str
    predicted: str
    count: int
    """Images."""


def count_confusions(predictions: Sequence[PredictionRow]) -> list[Confusion]:
    """All kinds of mistakes, the most frequent first; equally frequent ones by name."""
    counts = Counter((row.label, row.predicted) for row in predictions)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Confusion(*pair, count) for pair, count in ordered if pair[0] != pair[1]]


def describe_most_frequent(confusions: Sequence[Confusion]) -> str:
    """The most frequent kind of mistake in a sentence, and all that are as frequent."""
    if not confusions:
        return "It makes no mistake on them."
    count = confusions[0].count
    leaders = [confusion for confusion in confusions if confusion.count == count]
    times = "once" if count == 1 else f"{count} times"
    if len(leaders) > MAX_LEADERS:
        return f"{len(leaders)} pairs of classes are confused most often: {times} each."
    listed = " and ".join(f"{leader.label} for {leader.predicted}" for leader in leaders)
    return f"It most often takes {listed} ({times}{' each' if len(leaders) > 1 else ''})."
