"""How far figures of a finite test set can be from the truth, and whether two of them differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 10_000
SEED = 0  # the same test set has the same interval
Right = npt.NDArray[np.bool_]  # (N,) which images were classified rightly
Values = npt.NDArray[np.float64]  # (N,) of each image


@dataclass(frozen=True)
class Interval:
    """Where the truth is, 95 times of 100."""

    low: float
    high: float


def wilson(right: int, count: int) -> Interval:
    """Of a share of `count` independent images.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference"
    (1927).
    """
    found = stats.binomtest(right, count).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(found.low), float(found.high))


def bootstrap(right: Right, groups: Sequence[str]) -> Interval:
    """Of the share of right images, by drawing whole groups anew: images of one owner, or near-
    duplicates, are right or wrong together, and tell less than as many independent ones.

    Args:
        groups: (N,) The group of each image, "" where it has none.

    Source: B. Efron, "Bootstrap methods: another look at the jackknife" (1979); percentiles.
    """
    shares = _resampled(right.astype(float), groups)
    low, high = np.quantile(shares, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def difference(one: Values, other: Values, groups: Sequence[str]) -> Interval:
    """Of `other`'s mean less `one`'s, on the same images: the paired bootstrap of groups."""
    shares = _resampled(other - one, groups)
    low, high = np.quantile(shares, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def mcnemar(one: Right, other: Right) -> float:
    """How probable so lopsided a disagreement is between two models that are equally good.

    Exact and two-sided. Source: Q. McNemar, "Note on the sampling error of the difference between
    correlated proportions or percentages" (1947).
    """
    gained, lost = int((other & ~one).sum()), int((one & ~other).sum())
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def _resampled(values: Values, groups: Sequence[str]) -> Values:
    """(RESAMPLES,) Means of `values` over groups drawn with replacement."""
    sums, counts = _by_group(values, groups)
    random = np.random.default_rng(SEED)
    kinds, number = np.unique(np.stack([sums, counts]), axis=1, return_counts=True)
    # Groups alike in sum and size are one kind, and how often a kind is drawn is multinomial.
    drawn = random.multinomial(len(sums), number / len(sums), size=RESAMPLES)
    found: Values = (drawn @ kinds[0]) / (drawn @ kinds[1])
    return found


def _by_group(values: Values, groups: Sequence[str]) -> tuple[Values, Values]:
    """(G,) sums and (G,) numbers of images; one without a group is a group of its own."""
    own = [group or f"\0{number}" for number, group in enumerate(groups)]
    _, place = np.unique(own, return_inverse=True)
    sums, counts = np.bincount(place, values), np.bincount(place)
    return sums.astype(np.float64), counts.astype(np.float64)
