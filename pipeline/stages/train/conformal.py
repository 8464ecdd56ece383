"""Split conformal prediction: thresholds with a guarantee for finite samples, also for groups.

Sources: V. Vovk et al., "Algorithmic learning in a random world" (2005), for independent images;
R. Dunn et al., "Distribution-free prediction sets for two-layer hierarchical models" (2023), and
Y. Lee et al., "Distribution-free inference with hierarchical data" (2023), for groups.
"""

import math

import numpy as np
import numpy.typing as npt

ROUNDING = 1e-9  # sums of weights in float64 are that exact
CONFIDENCE = 0.95  # of the interval of the coverage
STEPS = 60  # of bisection: to the last bit of float64

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


def threshold(scores: Floats, groups: Numbers, level: float) -> float:
    """The smallest score that is at least as high as that of a new image with probability `level`.

    The new image is one of a new group, exchangeable with these groups; nothing else is assumed.
    Each group has the same weight, and so has the new one, whose scores are taken as infinite: of
    images on their own that is the ceil((N + 1) * level)-th smallest score.

    Args:
        scores: (N,) They may tie; then the probability is higher.
        groups: (N,) A number for each group.

    Returns:
        Infinity if there are too few groups: see `least_groups`.
    """
    if not len(scores):
        return math.inf
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    weight = np.cumsum(1 / sizes[number][order])  # of the scores up to each, in groups
    reached = np.flatnonzero(weight >= level * (len(sizes) + 1) - ROUNDING)
    return float(scores[order[reached[0]]]) if len(reached) else math.inf


def least_groups(level: float) -> int:
    """The smallest number of groups with a finite threshold: 19 for a level of 0.95."""
    return math.ceil((level - ROUNDING) / (1 - level))


def coverage_interval(groups: int, level: float) -> tuple[float, float]:
    """Within which the coverage by a threshold of so many groups lies, with `CONFIDENCE`.

    The level holds on average over calibration sets. Given one of G independent images, without
    ties, the coverage has the distribution Beta(k, G + 1 - k), where k is ceil((G + 1) * level).
    Source: V. Vovk, "Conditional validity of inductive conformal predictors" (2012).
    """
    if groups < least_groups(level):
        return 1.0, 1.0
    rank = math.ceil(level * (groups + 1) - ROUNDING)
    tails = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    low, high = (_beta_quantile(tail, rank, groups) for tail in tails)
    return low, high


def _beta_quantile(share: float, rank: int, count: int) -> float:
    """Of Beta(rank, count + 1 - rank), whose distribution function is a tail of binomials.

    As scipy.special.betaincinv, which takes a third of a second to import.
    """
    successes = np.arange(rank, count + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])  # of factorials
    ways = logs[count] - logs[successes] - logs[count - successes]
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        terms = ways + successes * math.log(middle) + (count - successes) * math.log1p(-middle)
        is_above = float(np.exp(terms).sum()) >= share
        low, high = (low, middle) if is_above else (middle, high)
    return (low + high) / 2
