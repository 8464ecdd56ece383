"""What to make of an accuracy: leaks, the most frequent class, a target, a former model.

A difference counts as in `pipeline compare`: if McNemar's exact test and the interval of a paired
bootstrap of groups agree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from pipeline.core.percentages import MIN_IMAGES, format_interval, format_right, format_share
from pipeline.core.plurals import plural
from pipeline.core.terminal import printable
from pipeline.stages.evaluate import intervals
from pipeline.stages.evaluate.intervals import ALONE, Groups, Interval, Right
from pipeline.stages.evaluate.metrics import Figures, Selected
from pipeline.stages.evaluate.probabilities import Labels

SIGNIFICANCE = 0.05


class Outcome(StrEnum):
    """Of a comparison; the page has a colour for each."""

    GOOD = "good"
    BAD = "bad"
    OPEN = "open"  # the test set is too small to tell


@dataclass(frozen=True)
class Verdict:
    """A comparison in a few words, and its evidence."""

    outcome: Outcome
    title: str
    evidence: str
    """A sentence."""


def accuracy_interval(figures: Figures, groups: Groups) -> Interval:
    """The 95 % interval to report: of groups, where some images are not independent.

    Where all groups are equally right, it is Wilson's of the number of groups.
    """
    if not (groups != ALONE).any():
        return Interval(figures["accuracy.wilson_low"], figures["accuracy.wilson_high"])
    interval = Interval(figures["accuracy.bootstrap_low"], figures["accuracy.bootstrap_high"])
    if not interval.is_empty:
        return interval
    count = intervals.count_groups(groups)
    return intervals.wilson(round(figures["accuracy"] * count), count)


def judge_against_target(target: float, interval: Interval) -> Verdict:
    """Whether a target accuracy, in 0..1, is reached; not shown if the interval holds it."""
    title = f"Target of {format_share(target)}"
    ends = format_interval(interval.low, interval.high)
    if interval.low >= target:
        evidence = f"The whole 95 % interval, {ends}, is at or above it."
        return Verdict(Outcome.GOOD, f"{title} reached", evidence)
    if interval.high < target:
        evidence = f"The whole 95 % interval, {ends}, is below it."
        return Verdict(Outcome.BAD, f"{title} missed", evidence)
    evidence = f"The 95 % interval, {ends}, contains it: the test set is too small to tell."
    return Verdict(
        Outcome.OPEN, f"Target of {format_share(target)} neither reached nor missed", evidence
    )


def judge_against_majority(
    labels: Labels, predicted: Labels, training: Labels, classes: Sequence[str], groups: Groups
) -> Verdict:
    """Against always answering the class with the most training images.

    Args:
        labels: (N,) Of the test images, as `predicted` and `groups`.
        training: (T,) Labels of the training images.
    """
    majority = int(np.bincount(training, minlength=len(classes)).argmax())
    name = printable(classes[majority])
    right = labels == majority
    share = format_right(int(right.sum()), len(right))
    baseline = f"always answering “{name}”, the most frequent class in training"
    return judge_difference(
        right,
        labels == predicted,
        groups,
        better=f"Better than {baseline}",
        worse=f"Worse than {baseline}",
        equal=f"Not shown to be better than {baseline}",
        of_first=f"That would be right on {share}",
    )


def judge_leaks(right: Right, is_leaked: Selected) -> Verdict | None:
    """How much the accuracy owes to test images whose group was trained or validated on.

    Args:
        right: (N,) Whether each test image is classified rightly, as `is_leaked`.
    """
    if not is_leaked.any():
        return None
    count, others = int(is_leaked.sum()), right[~is_leaked]
    have = plural(count, "test image is", "test images are")
    evidence = (
        f"{have} of a group (near-duplicates, or the same owner) that the model was trained or "
        f"validated on (split.leaks=keep): {format_right(int(right.sum()), len(right))} right with "
    )
    evidence += "them" if count > 1 else "it"
    if len(others):
        evidence += f", {format_right(int(others.sum()), len(others))} without."
    else:
        evidence += ", and there are no others."
    return Verdict(Outcome.BAD, "The accuracy counts images that leaked", evidence)


def judge_difference(
    first: Right,
    second: Right,
    groups: Groups,
    *,
    better: str,
    worse: str,
    equal: str,
    of_first: str,
) -> Verdict:
    """Whether the second of two models is better, on the same images (N,).

    Args:
        better: The title if it is; `worse` and `equal` likewise.
        of_first: The start of a sentence on the first model.
    """
    interval = intervals.difference(first.astype(float), second.astype(float), groups)
    p = intervals.mcnemar(first, second)
    difference = float(second.mean() - first.mean())
    is_significant = p < SIGNIFICANCE and not interval.low <= 0 <= interval.high
    evidence = f"{of_first[0].upper()}{of_first[1:]}: "
    if len(first) < MIN_IMAGES:
        evidence += (
            f"{int(second.sum())} instead of {int(first.sum())} of {len(first)} images right"
        )
    else:
        evidence += f"{_points(difference, len(first))} points"
    if len(first) >= MIN_IMAGES and not interval.is_empty:
        low, high = (_points(end, len(first)) for end in (interval.low, interval.high))
        evidence += f", 95 % interval {low} to {high}"
    evidence += f", McNemar's p {_probability(p)}."
    if not is_significant:
        return Verdict(Outcome.OPEN, equal, evidence)
    if difference > 0:
        return Verdict(Outcome.GOOD, better, evidence)
    return Verdict(Outcome.BAD, worse, evidence)


def _points(share: float, count: int) -> str:
    """Percentage points, with decimals enough for a single image of `count`."""
    decimals = max(1, math.ceil(math.log10(count)) - 2)
    return f"{round(100 * share, decimals) + 0.0:+.{decimals}f}"  # + 0.0: of -0 makes 0


def _probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"
