"""Confidence intervals of test figures, and tests of a difference between two models."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.core import columns
from pipeline.core.columns import Codes, Column

CONFIDENCE = 0.95
QUANTILE = 1.959963984540054  # standard deviations: of a normal distribution, 95 % lie within
RESAMPLES = 10_000
SEED = 0  # fixed, for the same interval every time
Right = npt.NDArray[np.bool_]  # (N,) whether each image is classified correctly
Values = npt.NDArray[np.float64]  # (N,) one per image
Groups = Codes  # (N,) the number of the group of each image, or ALONE
ALONE = -1  # in the place of a group: an image on its own


@dataclass(frozen=True)
class Interval:
    """Ends of a 95 % confidence interval."""

    low: float
    high: float

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing: a bootstrap of equal groups always draws the same figure."""
        return self.low == self.high


def wilson(right: int, count: int) -> Interval:
    """Interval of an accuracy on `count` independent images.

    As scipy.stats, which takes half a second to import. Source: E. B. Wilson, "Probable inference,
    the law of succession, and statistical inference" (1927).
    """
    share, z = right / count, QUANTILE
    denominator = 2 * (count + z**2)
    centre = (2 * count * share + z**2) / denominator
    distance = z / denominator * math.sqrt(4 * count * share * (1 - share) + z**2)
    return Interval(
        0.0 if right == 0 else centre - distance, 1.0 if right == count else centre + distance
    )


def bootstrap(right: Right, groups: Groups) -> Interval:
    """Interval of an accuracy, by resampling whole groups.

    Images of one owner, or near-duplicates, are right or wrong together: they are weaker evidence
    than the same number of independent images.

    Args:

    Source: B. Efron, "Bootstrap methods: another look at the jackknife" (1979); percentiles.
    """
    return _percentiles(_resample(right.astype(float), groups))


def number_groups(names: Column) -> Groups:
    """The groups of images by their names, which are empty for an image on its own."""
    codes, distinct = columns.encode(names)
    unnamed = columns.positions(columns.texts([""]), distinct)
    return np.where(codes == unnamed, np.int32(ALONE), codes)


def count_groups(groups: Groups) -> int:
    """Number of independent groups, where an image without a group is its own."""
    return len(np.unique(number_all_groups(groups)))


def difference(first: Values, second: Values, groups: Groups) -> Interval:
    """Interval of `second`'s mean minus `first`'s, on the same images: paired, by groups."""
    return _percentiles(_resample(second - first, groups))


def mcnemar(first: Right, second: Right) -> float:
    """The p-value of the hypothesis that two models are equally accurate.

    Exact and two-sided, as scipy's binomtest, which takes half a second to import. Source: Q.
    McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages" (1947).
    """
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    count, fewer = gained + lost, min(gained, lost)
    if gained == lost:
        return 1.0
    # Twice the tail of a binomial distribution of `count` fair coins, by logarithms: as
    # fractions of 2 ** count its terms are too small, and as integers too long.
    number = np.arange(1, fewer + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log((count - number + 1) / number))])
    return min(1.0, float(2 * np.exp(logs - count * math.log(2)).sum()))


def _percentiles(means: Values) -> Interval:
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def _resample(values: Values, groups: Groups) -> Values:
    """(RESAMPLES,) Means of `values` over groups drawn with replacement."""
    sums, counts = sum_by_group(values, groups)
    random = np.random.default_rng(SEED)
    kinds, number = np.unique(np.stack([sums, counts]), axis=1, return_counts=True)
    # Groups of equal sum and size are one kind; how often a kind is drawn is multinomial.
    drawn = random.multinomial(len(sums), number / len(sums), size=RESAMPLES)
    means: Values = (drawn @ kinds[0]) / (drawn @ kinds[1])
    return means


def sum_by_group(values: Values, groups: Groups) -> tuple[Values, Values]:
    """(G,) sums and (G,) numbers of images; an image without a group is its own group."""
    index = number_all_groups(groups)
    sums, counts = np.bincount(index, values), np.bincount(index)
    return sums.astype(np.float64), counts.astype(np.float64)


def number_all_groups(groups: Groups) -> npt.NDArray[np.intp]:
    """(N,) Numbers from 0 without gaps, with one of its own for each image without a group."""
    first = int(groups.max(initial=ALONE)) + 1
    own = np.where(groups == ALONE, first + np.arange(len(groups)), groups)
    return np.unique(own, return_inverse=True)[1].reshape(-1)
