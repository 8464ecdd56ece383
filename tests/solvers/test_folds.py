import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.solvers.folds import stratified_folds

EXAMPLES = settings(derandomize=True, max_examples=50)


@EXAMPLES
@given(st.integers(0, 99), st.integers(2, 4), st.integers(0, 2))
def test_folds_are_as_even_as_those_of_scikit_learn(
    seed: int, classes: int, group_size: int
) -> None:
    random = np.random.default_rng(seed)
    count = 60 * classes
    labels = np.arange(count) % classes
    groups = random.integers(0, count // (group_size + 1), count)
    groups = np.unique(groups, return_inverse=True)[1]
    kfold = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    theirs = np.zeros(count, np.int64)
    for fold, (_, test) in enumerate(kfold.split(groups, labels, groups)):
        theirs[test] = fold
    deviations = [
        np.bincount(labels * 5 + folds, minlength=5 * classes).reshape(classes, 5).std(axis=1).max()
        for folds in (stratified_folds(labels, groups, 5, seed), theirs)
    ]
    assert deviations[0] <= deviations[1] + 0.5  # images


@EXAMPLES
@given(st.integers(0, 99), st.integers(1, 30))
def test_each_group_takes_the_fold_that_it_unbalances_least(seed: int, classes: int) -> None:
    """Beside the rule written down for all classes at once, with large groups first."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, 150)])
    groups = np.unique(random.integers(0, 80, len(labels)), return_inverse=True)[1]
    table = np.zeros((groups.max() + 1, classes))
    np.add.at(table, (groups, labels), 1)
    order = np.arange(len(table))
    np.random.RandomState(0).shuffle(order)
    order = order[np.argsort(-table[order].std(axis=1).round(9), kind="stable")]
    expected, counts = np.zeros(len(table), np.int64), np.zeros((3, classes))
    for group in order:
        means = []
        for fold in range(3):
            counts[fold] += table[group]
            means.append((counts / table.sum(axis=0)).std(axis=0).mean().round(9))
            counts[fold] -= table[group]
        expected[group] = min(range(3), key=lambda fold: (means[fold], counts[fold].sum()))
        counts[expected[group]] += table[group]
    assert stratified_folds(labels, groups, 3).tolist() == expected[groups].tolist()


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
