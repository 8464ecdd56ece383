import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as reference

from pipeline.stages.evaluate.confusions import (
    MAX_CLASSES,
    MAX_CONFUSED,
    confusion_matrix,
    count_confusions,
)


@given(st.integers(1, 200), st.integers(2, 7), st.integers(0))
@settings(derandomize=True, max_examples=50)
def test_the_counts_are_scikit_learns(images: int, count: int, seed: int) -> None:
    labels, predicted = np.random.default_rng(seed).integers(0, count, (2, images))
    names = [f"c{number}" for number in range(count)]
    matrix = confusion_matrix(labels, predicted, names)
    expected = reference(labels, predicted, labels=range(count))
    assert (matrix.counts == expected).all()
    assert (matrix.images == expected.sum(axis=1)).all()
    assert (matrix.classes, matrix.title) == (names, "")
    kinds = count_confusions(labels, predicted, names)
    mistakes = {(kind.label, kind.predicted): kind.count for kind in kinds}
    assert mistakes == {
        (names[row], names[column]): number
        for (row, column), number in np.ndenumerate(expected)
        if number and row != column
    }


def test_of_many_classes_it_has_the_most_confused() -> None:
    count = MAX_CLASSES + 1
    names = [f"c{number}" for number in range(count)]
    random = np.random.default_rng(0)
    labels = random.integers(0, count, 20_000)
    predicted = labels.copy()
    wrong = random.random(20_000) < 0.1
    predicted[wrong] = random.integers(0, count, wrong.sum())
    predicted[labels == 7] = 93
    predicted[labels == 50] = 7
    matrix = confusion_matrix(labels, predicted, names)
    assert len(matrix.classes) == MAX_CONFUSED
    assert {"c7", "c50", "c93"} <= set(matrix.classes)
    assert list(matrix.classes) == sorted(matrix.classes, key=names.index)
    assert matrix.title == "the 30 most confused of 101 classes"
    numbers = [names.index(name) for name in matrix.classes]
    full = reference(labels, predicted, labels=range(count))
    assert (matrix.counts == full[np.ix_(numbers, numbers)]).all()
    assert (matrix.images == full.sum(axis=1)[numbers]).all()


def test_many_classes_without_a_mistake_are_shown_from_the_first() -> None:
    labels = np.arange(200)
    matrix = confusion_matrix(labels, labels, [f"c{number}" for number in labels])
    assert matrix.classes == [f"c{number}" for number in range(MAX_CONFUSED)]
    assert (matrix.counts == np.eye(MAX_CONFUSED)).all()
