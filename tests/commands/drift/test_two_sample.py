import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from pipeline.commands.drift import two_sample
from pipeline.commands.drift.sample import Sample
from pipeline.stages.evaluate.intervals import ALONE


def draw(seed: int, count: int, shift: float = 0.0, group_size: int = 1) -> Sample:
    """Images of 6 features, of groups whose images are almost alike."""
    random = np.random.default_rng(seed)
    centres = random.normal(shift, 1, (count, 6))
    values = np.repeat(centres, group_size, axis=0)
    values += random.normal(0, 0.01, values.shape)
    groups = np.repeat(np.arange(count), group_size) if group_size > 1 else np.full(count, ALONE)
    return Sample(values.astype(np.float32), groups.astype(np.int32), ["x"] * len(values))


def p_of(training: Sample, new: Sample) -> float:
    test = two_sample.run_test(training, new)
    assert test is not None
    return test.p


@pytest.mark.parametrize("group_size", [1, 5])
def test_images_that_are_alike_are_seldom_told_apart(
    group_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_sample, "PERMUTATIONS", 199)
    p_values = np.array(
        [p_of(draw(seed, 60), draw(1000 + seed, 30, 0, group_size)) for seed in range(200)]
    )
    # Of 200 draws with a probability of 0.1 each, 35 or more come with one of 0.0004.
    assert (p_values <= 0.1).sum() < 35
    assert (p_values <= 0.5).sum() > 60


def test_images_that_differ_are_told_apart() -> None:
    test = two_sample.run_test(draw(1, 100), draw(2, 60, shift=1.0))
    assert test is not None
    assert test.auc > 0.8
    assert test.p == 1 / (1 + two_sample.PERMUTATIONS)
    assert (test.new_groups, test.training_groups) == (30, 50)


def test_copies_of_one_image_are_no_evidence() -> None:
    training, new = draw(1, 200), draw(2, 25)
    copies = np.r_[np.arange(25), np.full(500, 3)]
    groups = np.r_[np.arange(25), np.full(500, 3)].astype(np.int32)
    repeated = Sample(new.values[copies], groups, ["x"] * len(copies))
    test = two_sample.run_test(training, repeated)
    assert test is not None
    assert test.new_groups in {12, 13}
    assert test.p > 0.01


def test_too_few_groups_are_not_tested() -> None:
    assert two_sample.run_test(draw(1, 200), draw(2, two_sample.MIN_GROUPS - 1, 0, 9)) is None
    assert two_sample.run_test(draw(1, two_sample.MIN_GROUPS - 1), draw(2, 200)) is None
    assert two_sample.run_test(draw(1, 200), draw(2, two_sample.MIN_GROUPS)) is not None


def test_of_many_groups_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_sample, "MAX_GROUPS", 40)
    test = two_sample.run_test(draw(1, 500), draw(2, 60, 2.0))
    assert test is not None
    assert (test.new_groups, test.training_groups) == (20, 20)


def test_the_statistic_and_p_value_are_those_of_scipy() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=60).round(1)  # with ties
    is_new = np.arange(60) < 20
    scores[is_new] += 0.4
    test = two_sample._permute(scores, is_new, random)
    expected = mannwhitneyu(scores[is_new], scores[~is_new], alternative="greater")
    assert test.auc == pytest.approx(expected.statistic / (20 * 40))
    assert test.p == pytest.approx(expected.pvalue, abs=0.02)
