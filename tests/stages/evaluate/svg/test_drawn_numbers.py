"""What charts say is what the figures are."""

import re
from itertools import pairwise

import numpy as np
import pytest

from pipeline.core.history import Record
from pipeline.core.percentages import format_interval, format_share
from pipeline.network.calibration import Bins
from pipeline.stages.evaluate import intervals
from pipeline.stages.evaluate.confusions import confusion_matrix
from pipeline.stages.evaluate.metrics import ClassFigures
from pipeline.stages.evaluate.ranking import Curve
from pipeline.stages.evaluate.svg.class_accuracy import draw_class_accuracy
from pipeline.stages.evaluate.svg.confusion import draw_confusion
from pipeline.stages.evaluate.svg.learning import MAX_MARKS, draw_accuracy, draw_loss
from pipeline.stages.evaluate.svg.plot import Plot, shares
from pipeline.stages.evaluate.svg.reliability import draw_reliability
from pipeline.stages.evaluate.svg.similarity import draw_similarity
from pipeline.stages.evaluate.svg.thresholds import draw_precision_recall, draw_roc
from tests.svg_chart import drawn

NAMES = ["ant", "<b>bee</b>", "\u202ecat"]
SHARES = Plot(shares("x"), shares("y"))


def figures_of(label: str, correct: int, n: int) -> ClassFigures:
    return ClassFigures(label, n, correct, n, None, None, None, None, None)


def history_of(count: int) -> list[Record]:
    """Validations whose numbers tell which they are; the fourth has the lowest loss."""
    return [
        Record(
            step=number,
            epoch=float(number),
            lr=0.1,
            train_loss=number / 7,
            train_accuracy=number / (count + 1),
            val_loss=abs(number - 4) / 9,
            val_accuracy=number / (count + 2),
        )
        for number in range(1, count + 1)
    ]


def test_classes_are_ordered_by_accuracy_with_wilsons_intervals() -> None:
    rows = [figures_of("ant", 19, 20), figures_of("<b>", 30, 60), figures_of("none", 0, 0)]
    chart = drawn(draw_class_accuracy(rows, ""))
    ends = [
        format_interval(interval.low, interval.high)
        for interval in (intervals.wilson(30, 60), intervals.wilson(19, 20))
    ]
    assert chart.readouts == [
        f"<b>: 30 of 60 right, 95 % interval {ends[0]}",
        f"ant: 19 of 20 right, 95 % interval {ends[1]}",
    ]
    assert {"50.0 %", "95.0 %", "<b>", "ant"} <= set(chart.texts)
    (low, _), (high, _) = chart.places()
    left, right = (float(chart.shapes("grid")[n].attrib["x1"]) for n in (0, -1))
    assert low == pytest.approx(left + 0.5 * (right - left), abs=0.1)
    assert high == pytest.approx(left + 0.95 * (right - left), abs=0.1)


def test_the_confusion_matrix_has_the_counts_and_shares() -> None:
    labels = np.repeat([0, 0, 1, 2], [9, 3, 10, 5])
    predicted = np.repeat([0, 1, 1, 0], [9, 3, 10, 5])
    chart = drawn(draw_confusion(confusion_matrix(labels, predicted, NAMES)))
    assert chart.readouts == [
        "ant as ant: 9 of 12 (75.0 %)",
        "ant as <b>bee</b>: 3 of 12 (25.0 %)",
        "<b>bee</b> as <b>bee</b>: 10 of 10 (100.0 %)",
        "\\u202ecat as ant: 5 of 5",
        "\\u202ecat as \\u202ecat: 0 of 5",
    ]
    assert [chart.texts.count(name) for name in ("ant", "<b>bee</b>", "\\u202ecat")] == [2, 2, 2]
    assert [rect.attrib["fill-opacity"] for rect in chart.shapes("right")] == [
        "0.75",
        "1.00",
        "0.00",
    ]
    assert [rect.attrib["fill-opacity"] for rect in chart.shapes("wrong")] == ["0.25", "1.00"]


@pytest.mark.parametrize(("count", "is_large"), [(2, False), (10, False), (30, True)])
def test_a_matrix_of_many_classes_is_scrolled_rather_than_small(count: int, is_large: bool) -> None:
    numbers = np.arange(count)
    names = [f"class {number}" for number in range(count)]
    chart = draw_confusion(confusion_matrix(numbers, numbers, names))
    assert chart.is_large == is_large
    width, height = drawn(chart).size
    assert is_large == (width > 380)
    for rect in drawn(chart).shapes("right"):
        x, y, side = (float(rect.attrib[name]) for name in ("x", "y", "width"))
        assert x + side < width
        assert y + side < height


def test_reliability_has_a_circle_and_a_row_for_each_bin() -> None:
    before = Bins(np.array([0.55, 0.95]), np.array([0.5, 0.9]), np.array([10, 30]))
    after = Bins(np.array([0.75]), np.array([0.8]), np.array([40]))
    chart = draw_reliability(before, after)
    assert drawn(chart).readouts == [
        "as trained, 55.0 % probable: 5 of 10 right",
        "as trained, 95.0 % probable: 27 of 30 right",
        "calibrated, 75.0 % probable: 32 of 40 right",
    ]
    expected = [SHARES.at(x, y) for x, y in ((0.55, 0.5), (0.95, 0.9), (0.75, 0.8))]
    assert drawn(chart).places() == [pytest.approx(place, abs=0.06) for place in expected]
    assert [row[2:] for row in chart.rows] == [["50.0 %", "10"], ["90.0 %", "30"], ["80.0 %", "40"]]
    assert [key.note for key in chart.keys] == [
        f"off by {format_share(error)} on average" for error in (0.05, 0.05)
    ]


def test_few_images_have_no_calibration_error() -> None:
    few = Bins(np.array([0.9996]), np.array([1.0]), np.array([9]))
    assert [key.note for key in draw_reliability(few, few).keys] == ["", ""]


def test_each_epoch_says_its_losses_and_accuracies() -> None:
    history = history_of(6)
    loss, accuracy = drawn(draw_loss(history)), drawn(draw_accuracy(history))
    assert loss.readouts == [
        f"epoch {n}: training {n / 7:.4f}, validation {abs(n - 4) / 9:.4f}" for n in range(1, 7)
    ]
    assert accuracy.readouts[1] == "epoch 2: training 28.6 %, validation 25.0 %"
    (best,) = loss.shapes("reference")
    bands = loss.shapes("hit")
    left, width = (float(bands[3].attrib[name]) for name in ("x", "width"))
    assert left < float(best.attrib["x1"]) < left + width
    assert "best at epoch 4" in draw_loss(history).keys[1].note


def test_a_single_epoch_can_be_pointed_at() -> None:
    (band,) = drawn(draw_loss(history_of(1))).shapes("hit")
    assert float(band.attrib["width"]) > 100


def test_a_long_training_has_a_limited_number_of_marks() -> None:
    chart = drawn(draw_loss(history_of(10 * MAX_MARKS + 1)))
    assert MAX_MARKS // 2 < len(chart.readouts) <= MAX_MARKS


def test_points_of_curves_are_those_of_the_ranking() -> None:
    curves = {"ant": Curve(np.array([0, 0.1, 1]), np.array([0, 0.8, 1]))}
    roc = drawn(draw_roc(curves, ""))
    assert roc.readouts == [
        "ant: 0.0 % found, 0.0 % false alarms",
        "ant: 80.0 % found, 10.0 % false alarms",
        "ant: 100.0 % found, 100.0 % false alarms",
    ]
    assert roc.places()[1] == pytest.approx(SHARES.at(0.1, 0.8), abs=0.06)


def test_precision_jumps_and_does_not_slope() -> None:
    curves = {"ant": Curve(np.array([1.0, 0.5, 0.0]), np.array([0.4, 0.9, 1.0]))}
    chart = drawn(draw_precision_recall(curves, "2 worst and 2 largest of 9 classes"))
    (path,) = chart.shapes("line")
    points = [tuple(map(float, pair.split())) for pair in re.split("[ML]", path.attrib["d"])[1:]]
    assert all(before[0] == after[0] or before[1] == after[1] for before, after in pairwise(points))
    assert "ant: precision 40.0 % at recall 100.0 %" in chart.readouts
    summary = draw_precision_recall(curves, "2 worst and 2 largest of 9 classes").summary
    assert "2 worst and 2 largest of 9 classes" in summary


def test_the_map_names_mistakes_and_fills_the_drawing() -> None:
    points = np.array([[0.0, 5.0], [10.0, -5.0], [5.0, 0.0]])
    chart = draw_similarity(points, np.array([0, 0, 1]), np.array([0, 1, 1]), NAMES)
    drawing = drawn(chart)
    assert drawing.readouts == ["ant", "ant, taken for <b>bee</b>", "<b>bee</b>"]
    assert len(drawing.shapes("mistake")) == 1
    assert [key.name for key in chart.keys] == NAMES[:2]  # none is of the third class
    width, _ = drawing.size
    (left, _), (right, _), (middle, _) = drawing.places()
    assert left < 0.05 * width
    assert right > 0.95 * width
    assert middle == pytest.approx((left + right) / 2, abs=0.1)


def test_identical_images_are_one_point_in_the_middle() -> None:
    drawing = drawn(draw_similarity(np.zeros((2, 2)), np.array([0, 1]), np.array([0, 1]), NAMES))
    width, _ = drawing.size
    assert [x for x, _ in drawing.places()] == [width / 2, width / 2]


def test_of_many_classes_the_largest_have_a_colour() -> None:
    labels = np.repeat(np.arange(20), np.arange(1, 21))
    chart = draw_similarity(
        np.arange(420.0).reshape(210, 2), labels, labels, [f"class {n}" for n in range(20)]
    )
    assert [key.name for key in chart.keys] == [f"class {n}" for n in range(8, 20)]
    assert len(drawn(chart).shapes("others")) == sum(range(1, 9))
    assert "12 of 20 classes" in chart.title
