"""A classifier two-sample test: can a classifier tell new images from training images?

After Lopez-Paz and Oquab (2017, arXiv 1610.06545): half of the images train it, the other half is
what it is tested on. Groups stay whole: a group is in one half, and counts once. If the new images
are drawn like the training images, the groups of the second half are exchangeable, so that the
p-value by permutation of their origins is valid at any size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.commands.drift.sample import Floats, Sample, Values
from pipeline.commands.suspects import regression
from pipeline.stages.evaluate.intervals import Groups, count_groups, sum_by_group

MIN_GROUPS = 20  # of each origin; with fewer, there is no test
MAX_GROUPS = 1000  # of each origin, drawn at random: more add seconds, and little power
PERMUTATIONS = 9999
SEED = 0

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TwoSampleTest:
    """The result of the test."""

    auc: float
    """Probability that a new group scores above a training group, in 0..1; 0.5 is chance."""
    p: float
    """One-sided, by permutation."""
    new_groups: int
    """That were tested."""
    training_groups: int


@dataclass(frozen=True)
class _Half:
    """Images that train or test the classifier; the origin of new ones is 1, of others 0."""

    values: Values
    origins: Labels
    groups: Groups


def run_test(training: Sample, new: Sample) -> TwoSampleTest | None:
    """Test whether `new` differs from `training`; None if one of them has too few groups."""
    if min(count_groups(training.groups), count_groups(new.groups)) < MIN_GROUPS:
        return None
    random = np.random.default_rng(SEED)
    fitted, tested = _halve(training, new, random)

    def blocks() -> Iterator[tuple[Values, Labels]]:
        yield fitted.values, fitted.origins

    scores = regression.fit(blocks, 2).probabilities(tested.values)[:, 1]
    sums, counts = sum_by_group(scores, tested.groups)
    origins, _ = sum_by_group(tested.origins.astype(float), tested.groups)
    return _permute(sums / counts, origins > 0, random)


def _halve(training: Sample, new: Sample, random: np.random.Generator) -> tuple[_Half, _Half]:
    """Both samples in halves of their groups, at most `MAX_GROUPS` of each sample."""
    parts: tuple[list[_Half], list[_Half]] = [], []
    first = 0
    for origin, sample in enumerate((training, new)):
        groups = _number(sample)
        places = random.permutation(int(groups.max()) + 1)[groups]
        limit = min(int(groups.max()) + 1, MAX_GROUPS)
        for number, half in enumerate(parts):
            rows = (places < limit) & (places % 2 == number)
            origins = np.full(int(rows.sum()), origin, np.int64)
            half.append(_Half(sample.values[rows], origins, first + groups[rows]))
        first += int(groups.max()) + 1
    fitted, tested = (
        _Half(
            np.concatenate([half.values for half in halves]),
            np.concatenate([half.origins for half in halves]),
            np.concatenate([half.groups for half in halves]),
        )
        for halves in parts
    )
    return fitted, tested


def _number(sample: Sample) -> Groups:
    """(N,) Groups from 0 without a gap; an image without a group is its own."""
    first = int(sample.groups.max()) + 1
    numbers = np.where(sample.groups < 0, first + np.arange(len(sample)), sample.groups)
    return np.unique(numbers, return_inverse=True)[1].astype(np.int32)


def _permute(
    scores: Floats, is_new: npt.NDArray[np.bool_], random: np.random.Generator
) -> TwoSampleTest:
    """The test of the groups' scores (G,)."""
    ranks = _ranks(scores)
    new_count, count = int(is_new.sum()), len(is_new)
    observed = ranks[is_new].sum()
    drawn = np.array([random.permutation(ranks)[:new_count].sum() for _ in range(PERMUTATIONS)])
    p = (1 + int((drawn >= observed - 1e-6).sum())) / (1 + PERMUTATIONS)
    above = observed - new_count * (new_count + 1) / 2
    auc = above / (new_count * (count - new_count))
    return TwoSampleTest(float(auc), p, new_count, count - new_count)


def _ranks(scores: Floats) -> Floats:
    """Ranks from 1; equal scores share their mean rank."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[places]
    return ranks
