import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from pipeline.core.terminal import printable
from pipeline.stages.evaluate import metrics
from tests.builders.names import DECEPTIVE

CLASSES = ["ant", "bee", "cat"]


@st.composite
def results(draw: st.DrawFn) -> tuple[metrics.Labels, metrics.Probabilities]:
    count = draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = random.integers(0, 3, count)
    return labels, random.dirichlet([1, 1, 1], count)


ALONE = [""] * 40


@given(results())
@settings(deadline=None, derandomize=True, max_examples=50)
def test_the_figures_are_scikit_learns(
    result: tuple[metrics.Labels, metrics.Probabilities],
) -> None:
    labels, probabilities = result
    predicted = probabilities.argmax(axis=1)
    figures = metrics.summary(labels, probabilities, CLASSES, ALONE[: len(labels)], {})
    assert figures["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert figures["loss"] == pytest.approx(
        reference.log_loss(labels, probabilities, labels=[0, 1, 2])
    )
    matrix = reference.confusion_matrix(labels, predicted, labels=[0, 1, 2])
    assert (metrics.confusion(labels, predicted, 3) == matrix).all()
    for number, name in enumerate(CLASSES):
        of_class = (labels == number, predicted == number)
        assert figures[f"n.{name}"] == of_class[0].sum()
        assert figures[f"predicted.{name}"] == of_class[1].sum()
        for figure in ("precision", "recall", "f1"):
            score = getattr(reference, f"{figure}_score")(*of_class, zero_division=np.nan)
            value = figures[f"{figure}.{name}"]
            assert np.isnan(score) if value is None else value == pytest.approx(score)
        if 0 < of_class[0].sum() < len(labels):
            scores = (of_class[0], probabilities[:, number])
            area = reference.roc_auc_score(*scores)
            assert figures[f"roc_auc.{name}"] == pytest.approx(area)
            mean = reference.average_precision_score(*scores)
            assert figures[f"average_precision.{name}"] == pytest.approx(mean)


@pytest.mark.parametrize("name", DECEPTIVE)
def test_names_of_figures_are_printable_since_dvc_prints_them(name: str) -> None:
    labels, probabilities = np.array([0, 1, 2]), np.eye(3)
    figures = metrics.summary(labels, probabilities, ["ant", name, "cat"], ALONE[:3], {})
    assert all(key.isprintable() for key in figures)
    assert figures[f"recall.{printable(name)}"] == 1


def test_the_macro_averages_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    labels, probabilities = random.integers(0, 3, 90), random.dirichlet([1, 1, 1], 90)
    figures = metrics.summary(labels, probabilities, CLASSES, [""] * 90, {})
    predicted = probabilities.argmax(axis=1)
    for figure in ("precision", "recall", "f1"):
        score = getattr(reference, f"{figure}_score")(labels, predicted, average="macro")
        assert figures[f"{figure}.macro"] == pytest.approx(score)
    area = reference.roc_auc_score(labels, probabilities, average="macro", multi_class="ovr")
    assert figures["roc_auc.macro"] == pytest.approx(area)


def test_the_order_is_stable_and_a_class_without_images_has_no_recall() -> None:
    figures = metrics.summary(np.array([0, 0, 1]), np.eye(3)[[0, 1, 1]], CLASSES, [""] * 3, {})
    assert list(figures)[:4] == ["loss", "accuracy", "accuracy.wilson_low", "accuracy.wilson_high"]
    assert list(figures)[-8:] == [
        "precision.cat",
        "recall.cat",
        "f1.cat",
        "roc_auc.cat",
        "average_precision.cat",
        "correct.cat",
        "n.cat",
        "predicted.cat",
    ]
    assert figures["recall.ant"] == 0.5
    assert figures["recall.cat"] is None
    assert figures["roc_auc.cat"] is figures["average_precision.cat"] is None
    assert figures["recall.macro"] == 0.75
    assert (figures["correct"], figures["n"]) == (2, 3)


def test_a_class_alone_in_the_test_set_has_no_auc() -> None:
    figures = metrics.summary(np.zeros(4, int), np.eye(3)[[0, 0, 1, 0]], CLASSES, [""] * 4, {})
    aucs = {name: value for name, value in figures.items() if name.startswith("roc_auc.")}
    assert aucs == {"roc_auc.macro": None} | {f"roc_auc.{name}": None for name in CLASSES}


def test_a_slice_has_its_own_accuracy_and_an_empty_one_is_left_out() -> None:
    slices = {"odd": np.array([True, False, True]), "none": np.zeros(3, bool)}
    figures = metrics.summary(np.array([0, 0, 1]), np.eye(3)[[0, 1, 1]], CLASSES, [""] * 3, slices)
    assert (figures["accuracy.slice.odd"], figures["n.slice.odd"]) == (1.0, 2)
    assert not any("none" in name for name in figures)


def test_of_many_classes_the_top_five_accuracy_is_reported() -> None:
    probabilities = np.tile(np.linspace(0.02, 0.2, 12), (3, 1))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = [f"c{number:02d}" for number in range(12)]
    figures = metrics.summary(np.array([11, 7, 6]), probabilities, names, [""] * 3, {})
    assert figures["top_5"] == pytest.approx(2 / 3)
    assert figures["accuracy"] == pytest.approx(1 / 3)


def test_the_loss_of_a_certain_mistake_is_finite() -> None:
    assert np.isfinite(metrics.log_loss(np.array([0]), np.array([[0.0, 1.0, 0.0]])))


def test_no_class_hides_the_figures_of_another_or_of_all() -> None:
    classes = ["a b", "a\xa0b", "macro", "slice.enlarged"]
    figures = metrics.summary(
        np.array([0, 0, 1, 2]), np.eye(4), classes, ALONE[:4], {"enlarged": np.array([True] * 4)}
    )
    names = metrics.name_classes(classes)
    assert len(set(names.values())) == len(classes)
    assert [figures[f"n.{names[label]}"] for label in classes] == [2, 1, 1, 0]
    assert figures["n.slice.enlarged"] == 4
    recalls = [figures[f"recall.{names[label]}"] for label in classes]
    assert recalls[3] is None
    assert figures["recall.macro"] == pytest.approx(np.mean(recalls[:3]))
