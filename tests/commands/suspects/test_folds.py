import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.commands.suspects.folds import stratified_folds

EXAMPLES = settings(derandomize=True, max_examples=50)


@EXAMPLES
@given(st.integers(0, 99), st.integers(1, 4), st.integers(0, 2))
def test_folds_are_those_of_scikit_learn(seed: int, classes: int, group_size: int) -> None:
    random = np.random.default_rng(seed)
    count = 60 * classes
    labels = np.arange(count) % classes
    groups = random.integers(0, count // (group_size + 1), count)
    groups = np.unique(groups, return_inverse=True)[1]
    folds = stratified_folds(labels, groups, 5, seed)
    if classes == 1:
        labels = np.append(labels, 1)[:count]  # scikit-learn takes two classes or more
    expected = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    if classes > 1:
        for fold, (_, test) in enumerate(expected.split(groups, labels, groups)):
            assert np.flatnonzero(folds == fold).tolist() == test.tolist()


@EXAMPLES
@given(st.integers(0, 99), st.integers(2, 40))
def test_groups_stay_whole_and_classes_are_divided_evenly(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), 10)
    groups = np.unique(random.integers(0, len(labels), len(labels)), return_inverse=True)[1]
    folds = stratified_folds(labels, groups, 5)
    assert len(np.unique(groups * 5 + folds)) == groups.max() + 1
    alone = stratified_folds(labels, np.arange(len(labels)), 5)
    counts = np.bincount(labels * 5 + alone).reshape(classes, 5)
    assert counts.tolist() == [[2] * 5] * classes


@pytest.mark.parametrize("classes", [3, 40])
def test_the_result_does_not_depend_on_how_many_groups_are_in_a_table(
    classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(400) % classes
    groups = np.unique(random.integers(0, 150, 400), return_inverse=True)[1]
    folds = stratified_folds(labels, groups, 5)
    monkeypatch.setattr("pipeline.commands.suspects.folds.CHUNK", 1)
    assert (stratified_folds(labels, groups, 5) == folds).all()
