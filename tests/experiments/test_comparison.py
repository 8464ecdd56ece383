"""Significant differences are reported as such, and noise is not."""

import csv
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dvc import api
from dvc_data.index import DataIndexDirError
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands.ci.ci_run import Reference
from pipeline.commands.ci.revisions import find_revision
from pipeline.commands.ci.summary import compare_models
from pipeline.core.errors import PipelineError
from pipeline.experiments.comparison import Comparison, compare
from pipeline.experiments.predictions import ModelPredictions, Prediction, load_predictions
from pipeline.experiments.predictions import parse_predictions as parse_files
from pipeline.params import Params
from tests.builders.locks import STAGES, LockedRuns, write_project
from tests.builders.params import override
from tests.builders.repositories import commit_all

OLD_HEADER = "id,label,predicted,group,p.bee,p.ant\n"
HEADER = "id,label,predicted,group,p_label,class_1,p_1,class_2,p_2\n"


def parse_predictions(text: str, classes: str = "") -> ModelPredictions:
    """Of a predictions.csv and, if it is asked for, a classes.csv."""
    return parse_files({"predictions.csv": text, "classes.csv": classes}.__getitem__, "a")


def predict_bees(right: np.ndarray, groups: int = 0) -> ModelPredictions:
    """Predictions for images of bees: "bee" where `right`, else "ant".

    Args:
        groups: Number of groups that the images belong to; 0: none has a group.
    """
    images = {
        f"{number:064x}": Prediction(
            "bee",
            "bee" if is_right else "ant",
            0.9 if is_right else 0.2,
            {"bee": 0.9, "ant": 0.1} if is_right else {"bee": 0.2, "ant": 0.8},
            f"g{number % groups}" if groups else "",
        )
        for number, is_right in enumerate(right)
    }
    return ModelPredictions.of_all_classes(images)


def losses(comparison: Comparison) -> tuple[float, float]:
    assert comparison.loss is not None
    return comparison.loss


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
    assert comparison.loss_interval is not None
    first_loss, second_loss = losses(comparison)
    assert second_loss < first_loss
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
    values = {"ant": 0.6, "bee": 0.4}
    other = ModelPredictions.of_all_classes({"0": Prediction("bee", "bee", 1.0, values, "")})
    with pytest.raises(PipelineError, match="different images: compare the folders"):
        compare(predictions, other)
    relabelled = ModelPredictions.of_all_classes(
        {key: Prediction("ant", "ant", 0.6, values, "") for key in predictions.images}
    )
    with pytest.raises(PipelineError, match="3 test images have different labels"):
        compare(predictions, relabelled)


def predict(*rows: tuple[str, dict[str, float]]) -> ModelPredictions:
    """Predictions from the label and the probabilities of each image."""
    images = {
        f"{number:064x}": Prediction(
            label, max(values, key=lambda name: values[name]), values[label], values, ""
        )
        for number, (label, values) in enumerate(rows)
    }
    return ModelPredictions.of_all_classes(images)


def test_models_of_different_classes_choose_among_the_common_ones() -> None:
    """With more classes to choose from, the same network makes more mistakes on the same images."""
    two = predict(
        ("ant", {"ant": 0.8, "bee": 0.2}),
        ("ant", {"ant": 0.4, "bee": 0.6}),
        ("bee", {"ant": 0.3, "bee": 0.7}),
    )
    three = predict(
        ("ant", {"wasp": 0.5, "bee": 0.1, "ant": 0.4}),
        ("ant", {"wasp": 0.7, "bee": 0.2, "ant": 0.1}),
        ("bee", {"wasp": 0.0, "bee": 1.0, "ant": 0.0}),
        ("wasp", {"wasp": 0.0, "bee": 1.0, "ant": 0.0}),
    )
    comparison = compare(two, three)
    assert comparison.classes == ["ant", "bee"]
    assert comparison.own_classes == ([], ["wasp"])
    assert comparison.own_answers == (0, 2)
    assert comparison.accuracy == pytest.approx((2 / 3, 2 / 3))
    assert comparison.disagreements == []
    expected = -np.mean(np.log([0.4 / 0.5, 0.1 / 0.3, 1.0]))
    assert losses(comparison)[1] == pytest.approx(expected)
    assert comparison.remarks("old", "new") == [
        "Only new knows wasp: both choose among 2 common classes here, which replaces 2 answers "
        "of new.",
        "new has 0 of 1 test image of wasp right; the other can have none.",
        "Left out: 1 test image that only new was tested on.",
    ]
    assert " of 2 common classes" in comparison.verdict("old", "new")
    swapped = compare(three, two)
    assert swapped.own_classes == (["wasp"], [])
    assert losses(swapped) == losses(comparison)[::-1]


def test_the_order_of_the_classes_says_nothing() -> None:
    first = predict(("ant", {"ant": 0.8, "bee": 0.2}), ("bee", {"ant": 0.8, "bee": 0.2}))
    other = predict(("ant", {"bee": 0.2, "ant": 0.8}), ("bee", {"bee": 0.2, "ant": 0.8}))
    comparison = compare(first, other)
    loss, other_loss = losses(comparison)
    assert loss == other_loss
    assert comparison.remarks("a", "b") == []
    assert "common classes" not in comparison.verdict("a", "b")


def test_a_model_sure_of_a_class_of_its_own_has_no_probability_left() -> None:
    two = predict(("ant", {"ant": 0.8, "bee": 0.2}), ("bee", {"ant": 0.3, "bee": 0.7}))
    three = predict(
        ("ant", {"wasp": 1.0, "ant": 0.0, "bee": 0.0}),
        ("bee", {"wasp": 0.0, "ant": 0.0, "bee": 1.0}),
    )
    comparison = compare(two, three)
    assert np.isfinite(losses(comparison)).all()
    assert losses(comparison)[1] > 300  # nats


def many_classes(*tops: tuple[str, dict[str, float]], count: int = 100) -> ModelPredictions:
    """Predictions of which only the most probable classes are known, of `count` classes."""
    return replace(predict(*tops), classes=frozenset(f"c{number}" for number in range(count)))


def test_of_many_equal_classes_all_is_exact() -> None:
    """What is left out of predictions.csv, the other classes, takes no part."""
    first = many_classes(("c1", {"c0": 0.5, "c1": 0.3}), ("c2", {"c2": 0.6, "c7": 0.1}))
    other = many_classes(("c1", {"c1": 0.5, "c0": 0.3}), ("c2", {"c2": 0.9, "c0": 0.1}))
    comparison = compare(first, other)
    assert comparison.accuracy == (0.5, 1.0)
    assert comparison.loss == pytest.approx(
        (-np.log([0.3, 0.6]).mean(), -np.log([0.5, 0.9]).mean())
    )
    assert comparison.remarks("a", "b") == []


def test_a_log_loss_that_would_take_all_probabilities_is_left_out() -> None:
    first = many_classes(("c1", {"c0": 0.5, "c1": 0.3}), ("c2", {"c99": 0.6, "c2": 0.1}))
    other = many_classes(("c1", {"c1": 0.5, "c0": 0.3}), ("c2", {"c2": 0.9, "c0": 0.1}), count=50)
    comparison = compare(first, other)
    assert comparison.accuracy == (0.5, 1.0)  # c2 is the most probable class that both know
    assert comparison.own_answers == (1, 0)
    assert comparison.loss is None
    assert comparison.loss_interval is None
    assert [row[0] for row in comparison.rows()] == ["accuracy"]
    known, lost = comparison.remarks("a", "b")
    assert known.startswith("Only a knows c50, c51, ")
    assert "c79, and 20 more: both choose among 50 common classes" in known
    assert lost.startswith("Log loss is not compared: predictions.csv keeps the 20 most probable ")


def test_a_choice_that_is_not_known_is_refused() -> None:
    first = many_classes(("c1", {"c98": 0.5, "c99": 0.3, "c1": 0.1}))
    ((key, image),) = first.images.items()
    hidden = replace(image, probabilities={"c98": 0.5, "c99": 0.3})
    other = many_classes(("c1", {"c1": 0.5, "c0": 0.3}), count=50)
    with pytest.raises(PipelineError, match="of 1 image these are all unknown to the other"):
        compare(replace(first, images={key: hidden}), other)


def test_classes_beyond_the_most_probable_are_those_of_classes_csv() -> None:
    header = "".join(f",class_{n},p_{n}" for n in range(1, 21))
    cells = "".join(f",c{n},0.04" for n in range(20))
    text = f"id,label,predicted,group,p_label{header}\n1,c30,c0,,0.01{cells}\n"
    classes = "label,n\n" + "".join(f"c{n},1\n" for n in range(31))
    tested = parse_predictions(text, classes)
    assert tested.classes == {f"c{n}" for n in range(31)}
    (image,) = tested.images.values()
    assert (image.label, image.of_label) == ("c30", 0.01)
    for damaged in ("label\nc1\n", "name\nc30\n", ""):
        with pytest.raises(PipelineError, match="of a is damaged"):
            parse_predictions(text, damaged)


def test_models_with_one_class_in_common_are_refused() -> None:
    ants = predict(("ant", {"ant": 0.8, "bee": 0.2}))
    wasps = predict(("ant", {"ant": 0.8, "wasp": 0.2}))
    with pytest.raises(PipelineError, match="only one class, ant, is known to both models"):
        compare(ants, wasps)


def test_models_without_a_class_in_common_are_refused_with_their_classes() -> None:
    """Whether or not they were tested on the same images."""
    pets = predict(("cat", {"cat": 0.8, "dog": 0.2}))
    insects = predict(("ant", {"ant": 0.8, "bee": 0.2}), ("bee", {"ant": 0.2, "bee": 0.8}))
    keys = insects.images.keys() - pets.images.keys()
    others = ModelPredictions.of_all_classes({key: insects.images[key] for key in keys})
    for other in (insects, others):
        with pytest.raises(PipelineError, match=r"no class .* first knows cat, dog, .* ant, bee"):
            compare(pets, other)


def test_two_unicode_forms_of_a_class_are_one() -> None:
    """Older versions took the form of the folder's name."""
    first, other = (unicodedata.normalize(form, "caf\xe9") for form in ("NFC", "NFD"))
    assert first != other
    header = "id,label,predicted,group,p.{0},p.bee\n{1},{0},{0},,0.7,0.3\n"
    comparison = compare(
        *(parse_predictions(header.format(name, "0" * 64)) for name in (first, other))
    )
    assert comparison.classes == ["bee", first]
    assert comparison.remarks("a", "b") == []
    both = f"id,label,predicted,group,p.{first},p.{other}\n1,{other},{first},,0.5,0.25\n"
    (prediction,) = parse_predictions(both).images.values()
    assert (prediction.label, prediction.probabilities) == (first, {first: 0.75})


@pytest.mark.parametrize(
    "text",
    [
        "id,label\n1,bee\n",
        OLD_HEADER + "1,bee,bee,,x,0.1\n",
        OLD_HEADER + "1,cat,cat,,0.9,0.1\n",
        OLD_HEADER + "1,bee,bee,,nan,nan\n",
        OLD_HEADER + "1,bee,wasp,,0.9,0.1\n",
        OLD_HEADER + "1,bee,bee,,0.9,-0.1\n",
        HEADER + "1,bee,bee,,0.9,bee,0.9,ant,x\n",
        HEADER + "1,bee,bee,,0.9,bee,0.9,ant,2\n",
        HEADER + "1,bee,bee,,,bee,0.9,ant,0.1\n",
        HEADER + "1,wasp,bee,,0.1,bee,0.9,ant,0.1\n",
        HEADER + "1,bee,wasp,,0.9,bee,0.9,ant,0.1\n",
        "<html>",
    ],
)
def test_damaged_predictions_are_reported_in_one_sentence(text: str) -> None:
    if text == "<html>":
        assert parse_predictions(text).images == {}
        return
    with pytest.raises(PipelineError, match="of a is damaged"):
        parse_predictions(text)


def test_an_image_that_is_listed_twice_is_refused() -> None:
    rows = "1,bee,bee,,0.9,0.1\n1,bee,ant,,0.1,0.9\n"
    with pytest.raises(PipelineError, match="of a lists an image twice"):
        parse_predictions(OLD_HEADER + rows)


def test_the_command_compares_two_folders(world: Path) -> None:
    """One of them of an older version."""
    old, new = (OLD_HEADER, ",0.3\n"), (HEADER, ",bee,0.7,ant,0.3\n")
    for name, answers, (header, cells) in (("a", "bbab", old), ("b", "bbbb", new)):
        (world / name).mkdir()
        rows = [
            f"{n:064x},bee,{'bee' if answer == 'b' else 'ant'},,0.7{cells}"
            for n, answer in enumerate(answers)
        ]
        (world / name / "predictions.csv").write_text(header + "".join(rows))
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
    (world / "a/predictions.csv").write_bytes(OLD_HEADER.encode() + b"1,\xff\xfe,bee,,0.9,0.1\n")
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


def test_predictions_of_an_earlier_state_are_reported(
    world: Path, params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(params)
    LockedRuns().run(*STAGES)
    Path("reports/test").mkdir()
    Path(".gitignore").write_text("/reports/test\n")
    text = OLD_HEADER + "1,bee,bee,,0.9,0.1\n2,ant,ant,,0.1,0.9\n"
    Path("reports/test/predictions.csv").write_text(text)
    commit_all("run")
    monkeypatch.setattr(api, "read", lambda *_, **__: text)
    for name in ("main", "reports/test"):
        load_predictions(name)
    assert capsys.readouterr().err == ""
    write_project(override(params, train__lr=0.5))
    load_predictions("main")
    assert capsys.readouterr().err == ""
    load_predictions("reports/test")
    assert "reports/test has results of an earlier state" in capsys.readouterr().err
    commit_all("params that nobody trained with")
    load_predictions("main")
    error = capsys.readouterr().err
    assert "warning: main has results of an earlier state" in error
    assert "(stages behind: train, evaluate)" in error
    verdict = compare_models(Reference(find_revision("main")), Path("reports/test"))
    assert "is of an earlier state than its params, data and code (stages behind: train, " in (
        verdict.sentence
    )
