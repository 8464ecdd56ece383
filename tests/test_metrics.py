import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from pipeline import metrics

CLASSES = ["ant", "bee", "cat"]


@st.composite
def results(draw: st.DrawFn) -> tuple[metrics.Labels, metrics.Probabilities]:
    count = draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = random.integers(0, 3, count)
    return labels, random.dirichlet([1, 1, 1], count)


@given(results())
@settings(deadline=None, derandomize=True, max_examples=50)
def test_the_figures_are_scikit_learns(
    result: tuple[metrics.Labels, metrics.Probabilities],
) -> None:
    labels, probabilities = result
    predicted = probabilities.argmax(axis=1)
    figures = metrics.summary(labels, probabilities, CLASSES)
    assert figures["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert figures["loss"] == pytest.approx(
        reference.log_loss(labels, probabilities, labels=[0, 1, 2])
    )
    matrix = reference.confusion_matrix(labels, predicted, labels=[0, 1, 2])
    assert (metrics.confusion(labels, predicted, 3) == matrix).all()


def test_names_stand_in_a_stable_order_and_an_absent_class_has_no_accuracy() -> None:
    figures = metrics.summary(np.array([0, 0, 1]), np.eye(3)[[0, 1, 1]], CLASSES)
    assert list(figures)[:7] == [
        "loss", "accuracy", "correct", "n", "accuracy.ant", "correct.ant", "n.ant",
    ]  # fmt: skip
    assert figures["accuracy.ant"] == 0.5
    assert figures["accuracy.cat"] is None
    assert (figures["correct"], figures["n"]) == (2, 3)


def test_certainty_of_the_wrong_class_is_a_finite_loss() -> None:
    assert np.isfinite(metrics.log_loss(np.array([0]), np.array([[0.0, 1.0, 0.0]])))
