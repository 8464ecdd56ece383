"""The accuracy on images without labels, estimated from how sure the model is of them.

By the difference of confidences (Guillory et al., 2021, arXiv 2107.03315): the accuracy on the test
set, minus the drop of the mean probability of the predicted class from the test images to the new
ones. It measures only what the model is unsure of, neither confident mistakes nor images of classes
that the model does not know.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.commands.drift.sample import Floats
from pipeline.stages.evaluate.intervals import (
    CONFIDENCE,
    Groups,
    Interval,
    Right,
    count_groups,
    number_all_groups,
    sum_by_group,
)

DRAWS = 2000  # of the accuracy on the new images
MIN_GROUPS = 20  # of new images, for an interval
PRIOR = 0.5  # Jeffreys' prior: half a group that is right, and half a group that is wrong


@dataclass(frozen=True)
class AccuracyEstimate:
    """Accuracies and mean confidences, in 0..1."""

    accuracy: float
    """Estimated, on the new images."""
    interval: Interval | None
    """95 %, of the accuracy on these very images; None if they are too few."""
    test_accuracy: float
    confidence: float
    test_confidence: float


def estimate_accuracy(
    confidence: Floats,
    groups: Groups,
    test_confidence: Floats,
    test_right: Right,
    test_groups: Groups,
) -> AccuracyEstimate:
    """Estimate the accuracy on images with these confidences (N,), from a test set (M,)."""
    surplus = test_right - test_confidence  # of accuracy over confidence
    accuracy = float(np.clip(surplus.mean() + confidence.mean(), 0, 1))
    interval = None
    if count_groups(groups) >= MIN_GROUPS:
        random = np.random.default_rng(0)
        surpluses = _draw_surpluses(surplus, float(test_confidence.mean()), test_groups, random)
        drawn = _draw_accuracies(confidence, groups, surpluses, random)
        ends = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
        # Probabilities end at 1, which can put the draws of a model that is not sure enough below.
        interval = Interval(min(ends[0], accuracy), max(ends[1], accuracy))
    return AccuracyEstimate(
        accuracy,
        interval,
        float(test_right.mean()),
        float(confidence.mean()),
        float(test_confidence.mean()),
    )


def _draw_surpluses(
    surplus: Floats, mean_confidence: float, groups: Groups, random: np.random.Generator
) -> Floats:
    """(DRAWS,) Mean surpluses that the test set allows, by the Bayesian bootstrap of its groups.

    A test set without a mistake has nearly no spread of its own. `PRIOR` adds to it what a
    Beta(0.5, 0.5) prior adds to the share of right answers.

    Source: D. B. Rubin, "The Bayesian bootstrap" (1981).
    """
    sums, counts = sum_by_group(surplus, groups)
    size = counts.mean()
    sums = np.append(sums, [size * (1 - mean_confidence), -size * mean_confidence])
    counts = np.append(counts, [size, size])
    shapes = np.append(np.ones(len(sums) - 2), [PRIOR, PRIOR])
    drawn = np.empty(DRAWS)
    for number in range(DRAWS):
        weights = random.standard_gamma(shapes)
        drawn[number] = (weights @ sums) / (weights @ counts)
    return drawn


def _draw_accuracies(
    confidence: Floats, groups: Groups, surpluses: Floats, random: np.random.Generator
) -> Floats:
    """(DRAWS,) Accuracies on the new images; those of one group are right or wrong together."""
    numbers: npt.NDArray[np.intp] = number_all_groups(groups)
    count = int(numbers.max()) + 1
    drawn = np.empty(len(surpluses))
    for draw, surplus in enumerate(surpluses.tolist()):
        is_right = random.random(count)[numbers] < confidence + surplus
        drawn[draw] = is_right.mean()
    return drawn
