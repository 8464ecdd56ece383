import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from pipeline.core.history import Record
from pipeline.network.calibration import Bins
from pipeline.stages.evaluate import charts
from pipeline.stages.evaluate.confusions import confusion_matrix
from pipeline.stages.evaluate.ranking import Curve, rank

HISTORY = [
    Record(10, 1.0, 0.1, train_loss=0.9, train_accuracy=0.5, val_loss=0.8, val_accuracy=0.6),
    Record(20, 2.0, 0.1, train_loss=0.4, train_accuracy=0.8, val_loss=0.5, val_accuracy=0.7),
]


def test_a_picture_has_the_same_bytes_every_time() -> None:
    assert charts.png(charts.curves(HISTORY)) == charts.png(charts.curves(HISTORY))


def test_the_confusion_matrix_shows_every_count() -> None:
    labels, predicted = np.array([0] * 6 + [1] * 7), np.array([0] * 5 + [1] * 8)
    figure = charts.confusion(confusion_matrix(labels, predicted, ["ant", "bee"]))
    assert [text.get_text() for text in figure.axes[0].texts] == ["5", "1", "0", "7"]


def test_the_curves_mark_the_best_epoch() -> None:
    legend = charts.curves(HISTORY).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][-1] == "best: epoch 2"


def test_the_size_is_limited_and_names_are_not_formulas() -> None:
    numbers = np.arange(100)
    figure = charts.confusion(confusion_matrix(numbers, numbers, [f"a$_$b{n}" for n in range(100)]))
    assert max(figure.get_size_inches()) <= charts.MAX_SIDE + 4
    assert charts.png(figure)


LABELS = np.array([0, 0, 1, 1, 1, 2, 2, 2])
# The first class has ties, within the class and across.
PROBABILITIES = np.array(
    [
        [0.6, 0.3, 0.1],
        [0.4, 0.4, 0.2],
        [0.4, 0.5, 0.1],
        [0.6, 0.2, 0.2],
        [0.1, 0.8, 0.1],
        [0.1, 0.2, 0.7],
        [0.4, 0.1, 0.5],
        [0.2, 0.5, 0.3],
    ]
)
NAMES = ["蚂蚁", "_hidden$_$<&", "line\nbreak " + "very " * 40]
DRAWN = ["蚂蚁", "_hidden$_$<&", "line\\nbreak … very very "]


def curves_of(classes: list[str]) -> tuple[dict[str, Curve], dict[str, Curve]]:
    rankings = {n: rank(np.equal(LABELS, n), PROBABILITIES[:, n]) for n in range(len(classes))}
    roc = {classes[n]: ranking.roc for n, ranking in rankings.items()}
    return roc, {classes[n]: ranking.precision_recall for n, ranking in rankings.items()}


def test_the_areas_below_the_curves_are_auc_and_average_precision() -> None:
    left, right = charts.by_threshold(*curves_of(["a", "b", "c"])).axes
    for number in range(3):
        positive, scores = number == LABELS, PROBABILITIES[:, number]
        x, y = np.asarray(left.lines[number].get_path().vertices).T
        assert auc(x, y) == pytest.approx(roc_auc_score(positive, scores))
        x, y = np.asarray(right.lines[number].get_path().vertices).T
        assert right.lines[number].get_drawstyle() == "steps-post"
        steps = -np.diff(x) @ y[:-1]
        assert steps == pytest.approx(average_precision_score(positive, scores))


def test_no_curves_are_no_reason_to_warn() -> None:
    assert charts.png(charts.by_threshold({}, {}))


def confusion_of(classes: list[str]) -> Figure:
    return charts.confusion(confusion_matrix(LABELS, PROBABILITIES.argmax(axis=1), classes))


def embedding_of(classes: list[str]) -> Figure:
    predicted = PROBABILITIES.argmax(axis=1)
    return charts.embedding(PROBABILITIES[:, :2], LABELS, predicted, classes)


def test_a_calibration_error_is_not_rounded_to_zero_and_not_given_for_few_images() -> None:
    many, few = [Bins(np.array([0.9996]), np.array([1.0]), np.array([n])) for n in (40, 9)]
    legend = charts.reliability(many, few).axes[0].get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[1:] == ["as trained: off by < 0.1 % on average", "calibrated"]


@pytest.mark.parametrize(("count", "title"), [(12, ""), (40, "12 of 40 classes")])
def test_a_legend_says_which_classes_it_has(count: int, title: str) -> None:
    names = [str(number) for number in range(count)]
    labels = np.arange(count)
    points = np.column_stack([labels, labels]).astype(float)
    curves = dict.fromkeys(names[:12], Curve(np.array([0.0, 1.0]), np.array([0.0, 1.0])))
    figures = [
        charts.embedding(points, labels, labels, names),
        charts.by_threshold(curves, curves, title),
    ]
    for legend in [axes.get_legend() for figure in figures for axes in figure.axes]:
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == names[:12]
        assert legend.get_title().get_text() == title


def test_the_map_colours_the_largest_classes() -> None:
    labels = np.repeat(np.arange(40), 2)
    labels[0] = 39  # three images; class 0 has one, all others two
    points = np.column_stack([labels, labels]).astype(float)
    axes = charts.embedding(points, labels, labels, [str(number) for number in range(40)]).axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [*map(str, range(1, 12)), "39"]
    colours = np.asarray(axes.collections[0].get_facecolor())[:, :3]
    assert (colours[labels == 39] == to_rgb(charts.PALETTE[-1])).all()
    assert (colours[(labels == 0) | (labels == 12)] == 0.75).all()
    assert len(np.unique(colours, axis=0)) == charts.MAX_LINES + 1
