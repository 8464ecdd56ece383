"""Significant differences are reported as such, and noise is not."""

import csv
from pathlib import Path

import numpy as np
import pytest
from dvc import api
from dvc_data.index import DataIndexDirError
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.core.errors import PipelineError
from pipeline.experiments.comparison import compare
from pipeline.experiments.predictions import Prediction, parse_predictions

HEADER = "id,label,predicted,group,p.bee,p.ant\n"


def predict_bees(right: np.ndarray, groups: int = 0) -> dict[str, Prediction]:
    """Predictions for images of bees: "bee" where `right`, else "ant".

    Args:
        groups: Number of groups that the images belong to; 0: none has a group.
    """
    return {
        f"{number:064x}": Prediction(
            "bee",
            "bee" if is_right else "ant",
            {"bee": 0.9, "ant": 0.1} if is_right else {"bee": 0.2, "ant": 0.8},
            f"g{number % groups}" if groups else "",
        )
        for number, is_right in enumerate(right)
    }


def test_a_real_difference_is_significant() -> None:
    random = np.random.default_rng(0)
    first = random.random(400) < 0.85
    second = first | (random.random(400) < 0.6)
    comparison = compare(predict_bees(first), predict_bees(second))
    assert (comparison.n, comparison.lost, comparison.unshared) == (400, 0, 0)
    assert comparison.difference == pytest.approx((second.sum() - first.sum()) / 400)
    interval = comparison.accuracy_interval
    assert interval.low <= comparison.difference <= interval.high
    assert comparison.verdict("main", "tidy-owl").startswith("tidy-owl is better than main: ")
    assert (
        compare(predict_bees(second), predict_bees(first))
        .verdict("a", "b")
        .startswith("a is better than b: ")
    )
    assert comparison.loss[1] < comparison.loss[0]
    assert comparison.loss_interval.high < 0


def test_noise_is_significant_in_at_most_five_of_a_hundred_comparisons() -> None:
    random = np.random.default_rng(0)
    significant = 0
    for _ in range(200):
        first, second = random.random((2, 150)) < 0.9
        significant += "is better" in compare(predict_bees(first), predict_bees(second)).verdict(
            "a", "b"
        )
    assert significant <= 10


def test_images_of_one_group_count_as_one() -> None:
    """More right answers on photographs of few owners are weak evidence."""
    first = np.arange(120) % 4 != 0
    second = first | (np.arange(120) % 10 == 0)
    assert "is better" in compare(predict_bees(first), predict_bees(second)).verdict("a", "b")
    assert "No significant difference" in compare(
        predict_bees(first, 10), predict_bees(second, 10)
    ).verdict("a", "b")


def test_a_model_does_not_differ_from_itself() -> None:
    first = predict_bees(np.arange(30) % 3 == 0)
    comparison = compare(first, first)
    assert (comparison.p, comparison.difference, comparison.disagreements) == (1.0, 0.0, [])
    sentence = comparison.verdict("a", "b")
    assert sentence == (
        "No significant difference between a and b: b has +0.0 points of accuracy on 30 images "
        "(0 gained, 0 lost, McNemar's p = 1)."
    )
    assert [row[-1] for row in comparison.rows()] == ["–", "–"]


def test_a_difference_of_a_single_image_of_many_is_not_zero() -> None:
    right = np.arange(10_000) > 0
    sentence = compare(predict_bees(np.ones(10_000, bool)), predict_bees(right)).verdict("a", "b")
    assert "b has -0.01 points of accuracy on 10000 images (95 %: -0.03 to +0.00; " in sentence


def test_only_images_of_both_count() -> None:
    comparison = compare(predict_bees(np.ones(10, bool)), predict_bees(np.ones(14, bool)))
    assert (comparison.n, comparison.unshared) == (10, 4)


def test_models_of_different_images_or_labels_are_refused() -> None:
    predictions = predict_bees(np.ones(3, bool))
    with pytest.raises(PipelineError, match="different images: evaluate both"):
        compare(predictions, {"0": Prediction("bee", "bee", {"bee": 1.0}, "")})
    relabelled = {key: Prediction("ant", "ant", {"ant": 1.0}, "") for key in predictions}
    with pytest.raises(PipelineError, match="3 test images have different labels"):
        compare(predictions, relabelled)


@pytest.mark.parametrize(
    "text",
    [
        "id,label\n1,bee\n",
        HEADER + "1,bee,bee,,x,0.1\n",
        HEADER + "1,cat,cat,,0.9,0.1\n",
        HEADER + "1,bee,bee,,nan,nan\n",
        "<html>",
    ],
)
def test_damaged_predictions_are_reported_in_one_sentence(text: str) -> None:
    if text == "<html>":
        assert parse_predictions(text, "a") == {}
        return
    with pytest.raises(PipelineError, match="of a is damaged"):
        parse_predictions(text, "a")


def test_the_command_compares_two_folders(world: Path) -> None:
    for name, answers in (("a", "bbab"), ("b", "bbbb")):
        (world / name).mkdir()
        rows = [
            f"{n:064x},bee,{'bee' if answer == 'b' else 'ant'},,0.7,0.3\n"
            for n, answer in enumerate(answers)
        ]
        (world / name / "predictions.csv").write_text(HEADER + "".join(rows))
    result = CliRunner().invoke(app, ["compare", "a", "b", "--csv", "differ.csv"])
    assert result.exit_code == 0, result.output
    output = " ".join(result.output.split())
    assert (
        "No significant difference between a and b: b has 4 of 4 images right, a 3 (1 gained, "
        "0 lost, McNemar's p = 1)." in output
    )
    with Path("differ.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {"id": f"{2:064x}", "label": "bee", "A": "ant", "B": "bee"}


@pytest.mark.parametrize("name", ["nowhere", "0" * 32])
def test_a_missing_model_is_reported_in_one_sentence(world: Path, name: str) -> None:
    result = CliRunner().invoke(app, ["compare", name, name])
    assert isinstance(result.exception, PipelineError)
    assert "\n" not in str(result.exception)


def test_predictions_that_are_not_utf8_are_damaged(world: Path) -> None:
    (world / "a").mkdir()
    (world / "a/predictions.csv").write_bytes(HEADER.encode() + b"1,\xff\xfe,bee,,0.9,0.1\n")
    result = CliRunner().invoke(app, ["compare", "a", "a"])
    assert isinstance(result.exception, PipelineError)
    assert "of a is damaged" in str(result.exception)


def test_an_evaluation_missing_in_the_cache_is_reported_in_one_sentence(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: str, rev: str) -> str:
        raise DataIndexDirError("failed to load directory ('reports', 'test')")

    monkeypatch.setattr(api, "read", read)
    result = CliRunner().invoke(app, ["compare", "main", "models"])
    assert "whose evaluation is in DVC's cache" in str(result.exception)
