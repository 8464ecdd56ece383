from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as reference

from pipeline.core.terminal import printable
from pipeline.stages.evaluate import metrics, test_set, verdict
from pipeline.stages.evaluate.intervals import ALONE, Groups
from pipeline.stages.evaluate.metrics import ClassFigures, Figures, ResultFigures, Selected
from tests.builders.names import DECEPTIVE
from tests.builders.results import result_of

CLASSES = ["ant", "bee", "cat"]
TEMPERATURE = 1.5


@st.composite
def results(draw: st.DrawFn) -> tuple[test_set.TestSetResult, np.ndarray]:
    """A result, and its calibrated probabilities, (N, 3)."""
    count = draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels, scores = random.integers(0, 3, count), random.normal(size=(count, 3)) * 2
    values = softmax(scores.astype(np.float32).astype(np.float64) / TEMPERATURE, axis=1)
    return result_of(labels, scores, CLASSES, TEMPERATURE), values


def summarise(result: test_set.TestSetResult) -> Figures:
    return metrics.summarise(
        result.labels,
        result.calibrated,
        result.top,
        result.class_figures,
        alone(result),
    )


def figures_of(
    result: test_set.TestSetResult, slices: Mapping[str, Selected] | None = None
) -> ResultFigures:
    return test_set.compute_figures(result, alone(result), slices or {}, TEMPERATURE)


def alone(result: test_set.TestSetResult) -> Groups:
    """The groups of a result whose images have none."""
    return np.full(len(result.ids), ALONE, np.int32)


def certain(
    labels: list[int], predicted: list[int], classes: Sequence[str]
) -> test_set.TestSetResult:
    """A result that is sure of its predictions."""
    return result_of(labels, 9 * np.eye(len(classes))[predicted], classes)


@given(results())
@settings(derandomize=True, max_examples=50)
def test_the_figures_are_scikit_learns(drawn: tuple[test_set.TestSetResult, np.ndarray]) -> None:
    result, probabilities = drawn
    labels, predicted = result.labels, probabilities.argmax(axis=1)
    figures = summarise(result)
    assert figures["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert figures["loss"] == pytest.approx(
        reference.log_loss(labels, probabilities, labels=[0, 1, 2])
    )
    for number, row in enumerate(result.class_figures):
        of_class = (labels == number, predicted == number)
        assert (row.label, row.n) == (CLASSES[number], of_class[0].sum())
        assert row.predicted == of_class[1].sum()
        assert row.correct == (of_class[0] & of_class[1]).sum()
        for figure in ("precision", "recall", "f1"):
            score = getattr(reference, f"{figure}_score")(*of_class, zero_division=np.nan)
            value = getattr(row, figure)
            if figure == "f1" and not row.n:  # scikit-learn's is 0 of a class that is predicted
                assert value is None
            else:
                assert value == (None if np.isnan(score) else score)
        if 0 < row.n < len(labels):
            scores = (of_class[0], probabilities[:, number])
            assert row.roc_auc == reference.roc_auc_score(*scores)
            assert row.average_precision == reference.average_precision_score(*scores)
        else:
            assert row.roc_auc is row.average_precision is None


@pytest.mark.parametrize("name", DECEPTIVE)
def test_names_of_figures_are_printable_since_mlflow_shows_them(name: str) -> None:
    flat = figures_of(certain([0, 1, 2], [0, 1, 2], ["ant", name, "cat"])).flat()
    assert all(key.isprintable() for key in flat)
    assert flat[f"recall.{printable(name)}"] == 1


def test_the_macro_averages_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 3, 90), random.normal(size=(90, 3)).astype(np.float32)
    result = result_of(labels, scores, CLASSES)
    probabilities, figures = softmax(scores.astype(np.float64), axis=1), summarise(result)
    predicted = probabilities.argmax(axis=1)
    for figure in ("precision", "recall", "f1"):
        score = getattr(reference, f"{figure}_score")(labels, predicted, average="macro")
        assert figures[f"{figure}.macro"] == pytest.approx(score)
    area = reference.roc_auc_score(labels, probabilities, average="macro", multi_class="ovr")
    assert figures["roc_auc.macro"] == pytest.approx(area)


def test_metrics_json_has_at_most_fifteen_figures_in_a_stable_order() -> None:
    few, many = (
        summarise(certain([0, 1], [0, 0], [f"c{number}" for number in range(count)]))
        for count in (3, 12)
    )
    assert list(many) == [
        "loss",
        "accuracy",
        "accuracy.wilson_low",
        "accuracy.wilson_high",
        "accuracy.bootstrap_low",
        "accuracy.bootstrap_high",
        "correct",
        "n",
        "top_5",
        "ece",
        "precision.macro",
        "recall.macro",
        "f1.macro",
        "roc_auc.macro",
        "average_precision.macro",
    ]
    assert list(few) == [name for name in many if name != "top_5"]


def test_a_class_without_images_has_no_recall_and_no_share_in_the_averages() -> None:
    result = certain([0, 0, 1, 1], [0, 1, 1, 2], CLASSES)
    cat = result.class_figures[2]
    assert (cat.n, cat.predicted, cat.precision) == (0, 1, 0.0)
    assert cat.recall is cat.f1 is cat.roc_auc is cat.average_precision is None
    figures = summarise(result)
    assert figures["recall.macro"] == 0.5
    assert figures["precision.macro"] == 0.75
    assert figures["f1.macro"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert (figures["correct"], figures["n"]) == (2, 4)


def test_a_class_alone_in_the_test_set_has_no_auc() -> None:
    result = certain([0] * 4, [0, 0, 1, 0], CLASSES)
    assert all(row.roc_auc is None for row in result.class_figures)
    assert summarise(result)["roc_auc.macro"] is None
    assert result.curves == {}


def test_a_slice_has_its_own_accuracy_and_an_empty_one_is_left_out() -> None:
    slices = {"odd": np.array([True, False, True]), "none": np.zeros(3, bool)}
    (odd,) = metrics.slice_figures(np.array([True, False, True]), slices)
    assert (odd.slice, odd.n, odd.correct, odd.accuracy) == ("odd", 2, 2, 1.0)


def test_of_many_classes_the_top_five_accuracy_is_reported() -> None:
    scores = np.tile(np.linspace(0.0, 3.0, 12), (3, 1))
    names = [f"c{number:02d}" for number in range(12)]
    figures = summarise(result_of([11, 7, 6], scores, names))
    assert figures["top_5"] == pytest.approx(2 / 3)
    assert figures["accuracy"] == pytest.approx(1 / 3)


def test_the_loss_of_a_certain_mistake_is_finite() -> None:
    assert np.isfinite(metrics.log_loss(np.zeros(1)))


def test_no_class_hides_the_figures_of_another_or_of_all() -> None:
    classes = ["a b", "a\xa0b", "macro", "slice.enlarged"]
    result = certain([0, 0, 1, 2], [0, 1, 2, 3], classes)
    flat = figures_of(result, {"enlarged": np.array([True] * 4)}).flat()
    names = metrics.name_classes(classes)
    assert len(set(names.values())) == len(classes)
    assert [flat[f"n.{names[label]}"] for label in classes[:3]] == [2, 1, 1]
    assert flat["n.slice.enlarged"] == 4
    assert flat["recall.macro"] == pytest.approx(0.5 / 3)


def rows_of(*sizes_and_scores: tuple[int, float]) -> list[ClassFigures]:
    return [
        ClassFigures(f"c{number}", n, 0, 1, 0.0, 0.0, f1, 0.5, 0.5)
        for number, (n, f1) in enumerate(sizes_and_scores)
    ]


def test_of_many_classes_the_worst_and_the_largest_are_shown_in_their_order() -> None:
    rows = rows_of((5, 0.9), (0, 0.0), (3, 0.1), (9, 0.8), (3, 0.2), (7, 0.7), (9, 0.1))
    selection = metrics.select_classes(rows, 4)
    assert selection.numbers == [2, 3, 5, 6]  # 2 and 6 for their F1, 3 and 5 for their images
    assert selection.title == "2 worst and 2 largest of 6 classes"
    everything = metrics.select_classes(rows, 6)
    assert everything.numbers == [0, 2, 3, 4, 5, 6]
    assert everything.title == ""


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), max_size=60), st.integers(1, 15))
@settings(derandomize=True, max_examples=100)
def test_fewer_shown_classes_are_some_of_those_shown_otherwise(
    sizes_and_scores: list[tuple[int, float]], most: int
) -> None:
    """Those in the picture have curves, because they are among those in the tables."""
    rows = rows_of(*sizes_and_scores)
    few, many = (metrics.select_classes(rows, count) for count in (most, 2 * most))
    assert set(few.numbers) <= set(many.numbers)
    assert len(few.numbers) == min(most, few.total)


def test_the_headline_has_the_interval_of_the_report() -> None:
    """Six images of two groups are weaker evidence than six independent ones."""
    labels = np.zeros(6, dtype=np.int64)
    groups = np.array([0, 0, 0, 1, 1, 1], dtype=np.int32)
    figures = {"loss": 0.5, **metrics._accuracy(labels == 0, groups)}
    line = metrics.headline(figures, verdict.accuracy_interval(figures, groups))
    assert line == "accuracy 1.0000 (6/6; 95 %: 0.3424 to 1.0000), loss 0.5000"
