import math
import re
from dataclasses import replace

import pytest

from pipeline.commands.ci import mermaid
from pipeline.core.history import Record
from pipeline.experiments.predictions import Prediction


def history(count: int, loss: float = 0.5) -> list[Record]:
    return [
        Record(number, float(number), 0.1, loss, 0.9, val_loss=loss / number, val_accuracy=0.8)
        for number in range(1, count + 1)
    ]


def predictions(*pairs: tuple[str, str]) -> list[Prediction]:
    return [Prediction(label, predicted, 0.5, {label: 0.5}, "") for label, predicted in pairs]


def test_two_charts_have_a_point_per_validation_and_a_line_per_split() -> None:
    lines = mermaid.curves(history(30))
    assert lines.count("```mermaid") == lines.count("xychart-beta") == 2
    series = [line for line in lines if line.startswith("    line [")]
    assert [len(re.findall(r"[\d.]+", line)) for line in series] == [30] * 4
    assert '    x-axis "epoch" 1 --> 30' in lines


def test_a_long_history_is_thinned_and_a_single_validation_not_drawn() -> None:
    series = [line for line in mermaid.curves(history(5000)) if "line [" in line]
    assert all(line.count(",") < 200 for line in series)
    assert mermaid.curves(history(1)) == []


def test_a_value_that_is_not_finite_is_not_drawn() -> None:
    lines = mermaid.curves(history(3, math.nan))
    assert "Loss cannot be drawn: a value is not finite." in lines
    assert lines.count("```mermaid") == 1


def test_confusion_is_a_table_of_counts() -> None:
    lines = mermaid.confusion(
        predictions(("bee", "bee"), ("bee", "ant"), ("ant", "ant"), ("a|t", "ant"))
    )
    assert lines[-3:] == [
        "| ant | **1** | 0 | 0 |",
        "| a&#124;t | 1 | **0** | 0 |",
        "| bee | 1 | 0 | **1** |",
    ]


def test_with_many_classes_the_most_frequent_mistakes_are_listed() -> None:
    right = [(str(number), str(number)) for number in range(20)]
    assert mermaid.confusion(predictions(*right)) == ["There are no mistakes."]
    lines = mermaid.confusion(predictions(*right, ("3", "4"), ("3", "4"), ("5", "4")))
    assert lines[-2:] == ["| 3 | 4 | 2 |", "| 5 | 4 | 1 |"]


def test_mistakes_that_are_left_out_are_counted() -> None:
    names = [f"class {number:02}" for number in range(13)]
    pairs = [("class 12", name) for name in names[:12]]
    lines = mermaid.confusion(predictions(*pairs, *pairs[:1], *reversed(pairs)))
    assert lines[4:6] == ["| class 12 | class 00 | 3 |", "| class 12 | class 01 | 2 |"]
    assert lines[-1] == "And 2 more pairs of classes, each with 2 or fewer."


def test_tiny_losses_are_not_drawn_as_zero() -> None:
    lines = mermaid.curves(history(4, 2e-6))
    (axis, *_) = [line for line in lines if "y-axis" in line]
    low, high = map(float, re.findall(r"[\d.]+", axis.split('"')[2]))
    (_, validation, *_) = [line for line in lines if "line [" in line]
    values = [float(value) for value in re.findall(r"[\d.]+", validation)]
    assert values == pytest.approx([2e-6, 1e-6, 2e-6 / 3, 5e-7], rel=0.01)
    assert low < min(values) < max(values) < high


def test_validations_at_uneven_distances_are_not_drawn_by_epoch() -> None:
    epochs = [0.4, 0.8, 1.0, 1.4, 1.8, 2.0]
    uneven = [replace(record, epoch=at) for record, at in zip(history(6), epochs, strict=True)]
    assert '    x-axis "validation" 1 --> 6' in mermaid.curves(uneven)
    assert '    x-axis "epoch" 0.4 --> 0.8' in mermaid.curves(uneven[:2])
    thinned = mermaid.curves(history(399))
    assert '    x-axis "epoch" 1 --> 399' in thinned
    assert len({line.count(",") for line in thinned if "line [" in line}) == 1
