"""How a model abstains on its test set: what it promises, and what it achieves."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pipeline.core import atomic
from pipeline.core.percentages import MIN_IMAGES, format_interval, format_level, format_share
from pipeline.core.plurals import plural
from pipeline.network import scoring
from pipeline.network.abstention import Abstention, AbstentionRule
from pipeline.stages.evaluate import intervals
from pipeline.stages.evaluate.class_scores import Scores
from pipeline.stages.evaluate.intervals import Groups
from pipeline.stages.evaluate.probabilities import Floats, Labels

NAME = "abstention.csv"
COLUMNS = ["label", "n", "covered", "single", "set_size"]
NOTHING = (
    "The model cannot abstain: an older version trained it, or its validation set had too few "
    "images to set some aside."
)


@dataclass(frozen=True)
class ImageSets:
    """Sets of classes of N test images."""

    sizes: Labels
    """(N,) Number of classes."""
    covered: npt.NDArray[np.bool_]
    """(N,) Whether the true class is one of them."""
    far: npt.NDArray[np.bool_]
    """(M,) Whether each of the first images is far from all training images."""


class SetCounter:
    """Counts the sets of classes of images, from their scores in batches."""

    def __init__(self, rule: AbstentionRule, temperature: float, labels: Labels) -> None:
        """`labels` are of all N images."""
        self._rule, self._temperature, self._labels = rule, temperature, labels
        self._sizes = np.zeros(len(labels), np.int64)
        self._covered = np.zeros(len(labels), bool)

    def watch(self, batches: Iterable[Scores]) -> Iterator[Scores]:
        """Count, and pass on, the batches of scores, (B, classes), of all images in order."""
        start = 0
        for batch in batches:
            rows = slice(start, start + len(batch))
            scores = torch.from_numpy(batch)
            sets = self._rule.sets(scoring.calibrated(scores, self._temperature)).numpy()
            self._sizes[rows] = sets.sum(axis=1)
            self._covered[rows] = sets[np.arange(len(batch)), self._labels[rows]]
            start = rows.stop
            yield batch

    def result(self, embedding: Floats) -> ImageSets:
        """The sets of all images; `embedding` (M, F) are inputs of the last layer."""
        far = self._rule.is_far(torch.from_numpy(embedding)).numpy()
        return ImageSets(self._sizes, self._covered, far)


def write_sets(path: Path, sets: ImageSets, labels: Labels, classes: Sequence[str]) -> None:
    """Write a row per class."""
    rows = []
    for number, name in enumerate(classes):
        of_class = labels == number
        sizes, covered = sets.sizes[of_class], sets.covered[of_class]
        mean = float(sizes.mean()) if len(sizes) else ""
        rows.append([name, len(sizes), int(covered.sum()), int((sizes == 1).sum()), mean])
    atomic.write_csv(path, COLUMNS, rows)


def describe_sets(
    promises: Abstention | None, sets: ImageSets | None, groups: Groups, classes: int
) -> list[str]:
    """Sentences on N test images.

    Args:
        groups: (N,) Shared by images that are not independent.
        classes: Number of classes.
    """
    if promises is None or sets is None:
        return [NOTHING]
    return [_promise(promises), *_results(promises, sets, groups, classes)]


def _promise(promises: Abstention) -> str:
    level, number = format_level(promises.coverage), plural(promises.groups, "group")
    origin = f"{plural(promises.images, 'validation image')} in {number}, used for nothing else"
    if promises.least_probability == 0:
        return f"Its sets hold all classes: {origin}, are too few to promise {level} with fewer."
    interval = format_interval(promises.coverage_low, promises.coverage_high)
    return (
        f"Its sets of classes hold the true class of {level} of new images of new groups (owners, "
        "near-duplicates), on average over all classes and not for each class. Calibrated on "
        f"{origin}, this model's own share is {interval} (95 % interval)."
    )


def _results(promises: Abstention, sets: ImageSets, groups: Groups, classes: int) -> Iterator[str]:
    count = len(sets.covered)
    if count >= MIN_IMAGES:
        share = format_share(float(sets.covered.mean()))
        ends = intervals.bootstrap(sets.covered, groups)
        interval = (
            "" if ends.is_empty else f" (95 % interval {format_interval(ends.low, ends.high)})"
        )
        single = format_share(float((sets.sizes == 1).mean()))
        yield (
            f"On the test set they held it for {share} of images{interval}; {single} of the sets "
            f"have a single class, and on average they have {sets.sizes.mean():.2f} of {classes}."
        )
    if promises.farthest is None:
        needed = format_level(promises.false_alarms)
        yield f"It never answers “none of these”: too few images for false alarms of {needed}."
    elif len(sets.far):
        yield (
            f"“None of these” was the answer to {int(sets.far.sum())} of "
            f"{plural(len(sets.far), 'test image')}; {format_level(promises.false_alarms)} are "
            "expected."
        )
