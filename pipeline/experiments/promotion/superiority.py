"""Exact tests of whether one model is better than another on the same images."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.stages.evaluate.intervals import Groups, Right, sum_by_group

Probabilities = npt.NDArray[np.float64]


def p_value(first: Right, second: Right, groups: Groups) -> float:
    """The one-sided p-value of the hypothesis that `second` is no better than `first`.

    Images of one group are right or wrong together, so groups are what counts: if the models are
    equally good, each group's difference of right answers is as likely to be in favour of the one
    as of the other. The p-value is the probability that random signs give as large a sum. Without
    groups this is the one-sided form of McNemar's exact test.

    Source: R. A. Fisher, "The design of experiments" (1935), section 21.
    """
    differences, _ = sum_by_group(second.astype(float) - first.astype(float), groups)
    differences = np.rint(differences).astype(np.int64)
    sizes, numbers = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    distribution = np.ones(1)
    for size, number in zip(sizes.tolist(), numbers.tolist(), strict=True):
        distribution = np.convolve(distribution, _spread(_binomial(number), size))
    # The sum is as large as this one where the negative differences add up to as little.
    negative = -int(differences[differences < 0].sum())
    return min(1.0, float(distribution[: negative + 1].sum()))


def _binomial(count: int) -> Probabilities:
    """(count + 1,) Probabilities of the number of heads of fair coins; exact in the tails."""
    number = np.arange(1, count + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log((count - number + 1) / number))])
    probabilities: Probabilities = np.exp(logs - count * math.log(2))
    return probabilities


def _spread(probabilities: Probabilities, step: int) -> Probabilities:
    """The distribution of `step` times the number, over 0, 1, 2, ..."""
    spread = np.zeros((len(probabilities) - 1) * step + 1)
    spread[::step] = probabilities
    return spread


def holm(p_values: Mapping[str, float], level: float) -> list[str]:
    """The names whose hypotheses are rejected, where all rejections are right with 1 - level.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    rejected: list[str] = []
    for name in sorted(p_values, key=lambda name: (p_values[name], name)):
        if p_values[name] > level / (len(p_values) - len(rejected)):
            break
        rejected.append(name)
    return rejected
