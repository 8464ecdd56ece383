"""Stage evaluate: its figures are right, and its page is complete."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image
from ruamel.yaml import YAML
from sklearn import metrics as reference

from pipeline.core import history, shards
from pipeline.core.errors import PipelineError
from pipeline.core.history import Record
from pipeline.inference.classifier import Classifier
from pipeline.inference.decoder_pool import DecoderPool
from pipeline.inference.predict import NamedImage, predict
from pipeline.network import calibration, model_folder, scoring
from pipeline.network.examples import read_examples
from pipeline.network.model_folder import Card
from pipeline.params import Params, load_params, with_overrides
from pipeline.stages.evaluate import evaluation, figures_csv, predictions_csv, report, test_set
from pipeline.stages.evaluate.class_rows import CLASS_FIGURES, MAX_CLASSES
from pipeline.stages.evaluate.drawing import draw_curves
from pipeline.stages.evaluate.evaluated_model import EvaluatedModel
from pipeline.stages.evaluate.evaluation import collect_chart_facts
from pipeline.stages.evaluate.intervals import ALONE
from pipeline.stages.evaluate.metrics import Figures, ResultFigures, SliceFigures
from pipeline.stages.evaluate.neighbours import find_neighbours
from pipeline.stages.evaluate.origin import ReportOrigin
from pipeline.stages.evaluate.photographs import PicturedSample
from pipeline.stages.evaluate.pictures import request_pictures
from pipeline.stages.evaluate.predictions_csv import PredictionRow
from pipeline.stages.evaluate.report import Photographs, Report
from pipeline.stages.evaluate.report_charts import draw_report_charts
from pipeline.stages.evaluate.svg.chart import Chart
from pipeline.stages.evaluate.verdict import Outcome, Verdict
from tests import ROOT
from tests.builders.models import scale_head
from tests.builders.predictions import read_predictions
from tests.builders.results import result_of
from tests.builders.stages import (
    CLEAN,
    HISTORY,
    MODELS,
    REPORT,
    SPLIT,
    TEST,
    SameProcess,
    evaluate_stage,
)
from tests.html_page import Page
from tests.svg_chart import drawn as drawn_chart

CLASSES = ["plain", "striped"]
CHARTS = (
    "classes",
    "confusion",
    "roc",
    "precision_recall",
    "reliability",
    "loss",
    "accuracy",
    "similarity",
)
EMPTY_CHARTS = dict.fromkeys(CHARTS, Chart("", "", Markup("<svg></svg>")))


def read_rows() -> list[PredictionRow]:
    return read_predictions(TEST / predictions_csv.NAME)


def read_figures(summary: Figures) -> ResultFigures:
    figures = figures_csv.read_figures(TEST, summary)
    assert figures is not None
    return figures


def test_the_summary_says_that_a_result_was_not_recorded(
    figures: Figures, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert evaluate_stage() == figures
    printed = capsys.readouterr()
    assert printed.err.count("warning: MLflow at http://127.0.0.1:9 fails") == 1
    summary = printed.out.splitlines()[-1]
    assert summary.startswith("evaluate: accuracy ")
    assert summary.endswith("; not recorded in MLflow, for the reason in the warning")


def test_the_figures_are_scikit_learns_of_predictions_csv(figures: Figures) -> None:
    rows = read_rows()
    labels = np.array([row.label == "striped" for row in rows])
    probabilities = np.array([[row.probabilities[name] for name in CLASSES] for row in rows])
    predicted = probabilities.argmax(axis=1)
    assert figures["n"] == len(rows) == len(read_examples(SPLIT, CLEAN).rows("test"))
    assert figures["accuracy"] == reference.accuracy_score(labels, predicted)
    assert figures["loss"] == pytest.approx(reference.log_loss(labels, probabilities), rel=1e-12)
    area = reference.roc_auc_score(labels, probabilities[:, 1])
    plain, striped = read_figures(figures).classes
    assert (plain.label, striped.label) == tuple(CLASSES)
    assert striped.roc_auc == pytest.approx(area, rel=1e-12)
    mean = reference.average_precision_score(labels, probabilities[:, 1])
    assert striped.average_precision == pytest.approx(mean, rel=1e-12)
    for figure in ("precision", "recall", "f1"):
        score = getattr(reference, f"{figure}_score")(labels, predicted)
        assert getattr(striped, figure) == pytest.approx(score, rel=1e-12)
        macro = getattr(reference, f"{figure}_score")(labels, predicted, average="macro")
        assert figures[f"{figure}.macro"] == pytest.approx(macro, rel=1e-12)


def test_predict_gives_the_same_probabilities_as_evaluate(figures: Figures) -> None:
    stored = shards.columns(CLEAN, ["id", "bytes"]).to_pylist()
    encoded = {row["id"]: row["bytes"] for row in stored}
    rows = read_rows()
    classifier = Classifier(MODELS)
    images = [NamedImage(row.id, encoded[row.id]) for row in rows]
    with DecoderPool(1) as decoders:
        predictions = [answer.prediction for answer in predict(classifier, decoders, images)]
    for row, prediction in zip(rows, predictions, strict=True):
        assert prediction.label == row.predicted
        expected = row.probabilities[row.predicted]
        assert prediction.probability == pytest.approx(expected, abs=1e-5)


def test_the_temperature_is_fitted_to_the_validation_set(figures: Figures, params: Params) -> None:
    _, card = model_folder.load(MODELS)
    written = read_figures(figures)
    assert (written.as_trained.temperature, written.calibrated.temperature) == (
        1.0,
        card.temperature,
    )
    assert card.temperature != 1.0
    examples = read_examples(SPLIT, CLEAN)
    model = test_set.load_model(MODELS, Path("data/features"), CLEAN, examples, params.device)
    rows = examples.rows("val")
    logits = scoring.logits(model.halves.trained, model.source, rows).double().numpy()
    temperature = calibration.fit_temperature(logits, examples.labels[rows].numpy())
    assert temperature == pytest.approx(card.temperature, rel=1e-4)
    assert figures["loss"] == written.calibrated.loss != written.as_trained.loss
    assert figures["ece"] == written.calibrated.ece


def test_scores_that_are_no_numbers_are_an_error(figures: Figures, params: Params) -> None:
    scale_head(MODELS, 3e38)
    metrics = Path("reports/metrics.json").read_bytes()
    with pytest.raises(PipelineError, match=r"scores are not finite numbers for \d+ of \d+ test"):
        evaluate_stage()
    assert Path("reports/metrics.json").read_bytes() == metrics


def test_the_outputs_have_the_same_bytes_every_time(figures: Figures) -> None:
    def outputs() -> dict[str, bytes]:
        files = [REPORT, Path("reports/metrics.json"), *TEST.iterdir()]
        return {str(path): path.read_bytes() for path in sorted(files)}

    first = outputs()
    assert evaluate_stage() == figures
    assert outputs() == first


def test_the_page_shows_the_figures(figures: Figures) -> None:
    html = REPORT.read_text()
    page = Page(html)
    text = " ".join(" ".join(page.text_of.values()).split())
    assert f"{100 * figures['accuracy']:.1f} %" in text
    (classes,) = [
        rows for rows in page.tables.values() if rows[0][0] == "class" and "f1" in rows[0]
    ]
    names = [row[0] for row in classes[1:]]
    assert names == ["plain", "striped", "macro average"]
    striped = read_figures(figures).classes[1]
    assert classes[2][1] == str(striped.n)
    assert classes[2][classes[0].index("f1")] == f"{striped.f1:.4f}"
    assert html.count('<figure class="chart"') == html.count("<svg ") == len(CHARTS)
    for source in html.split('src="')[1:]:
        kind, _, content = source.split('"')[0].partition(",")
        assert kind in {"data:image/png;base64", "data:image/jpeg;base64"}
        Image.open(io.BytesIO(base64.b64decode(content))).verify()


def test_charts_of_many_classes_and_images_leave_room_on_a_page_of_two_megabytes() -> None:
    random = np.random.default_rng(0)
    names = [f"class {number:05d} with a long name" for number in range(200)]
    labels = random.integers(0, 200, 10_000)
    scores = random.random((10_000, 200)) + 0.5 * np.eye(200)[labels]
    result = result_of(labels, 20 * scores, names)
    facts = collect_chart_facts(replace(result, embedding=np.zeros((1000, 1))))
    records = [Record(n, n, 0.1, n, 0.5, val_loss=n, val_accuracy=0.5) for n in range(1, 5000)]
    charts = draw_report_charts(records, facts, result, random.random((1000, 2)))
    assert len(drawn_chart(charts["classes"]).readouts) == MAX_CLASSES
    assert sum(len(chart.svg) for chart in charts.values()) < 600_000


def test_dvc_plots_names_columns_that_evaluate_writes(figures: Figures) -> None:
    plots = YAML(typ="safe").load(ROOT / "dvc.yaml")["plots"]
    pictures = []
    for plot in plots:
        ((name, values),) = plot.items()
        ((path, columns),) = values["y"].items()
        if name == path:
            pictures.append(Path(path))
            continue
        header = Path(path).read_text().splitlines()[0].split(",")
        columns = [columns] if isinstance(columns, str) else columns
        assert {values["x"], *columns} <= set(header)
    assert len(pictures) == 7
    assert all(path.exists() for path in pictures if path.parent.name == "test")


def model_of(
    card: Card,
    figures: ResultFigures,
    split_csv: Path = SPLIT,
    groups: Sequence[int] = (ALONE,) * 3,
    leaked: Sequence[bool] = (False,) * 3,
    params: Params | None = None,
) -> EvaluatedModel:
    """A model whose second image is taken for the first class."""
    labels = [row.label for row in figures.classes]
    return EvaluatedModel(
        params or load_params(),
        card,
        read_examples(split_csv, CLEAN),
        result_of([0, 1, 1], np.eye(len(labels))[[0, 0, 1]], labels),
        np.array(groups, np.int32),
        figures,
        np.array(leaked, bool),
    )


def collect(card: Card, figures: ResultFigures, split_csv: Path = SPLIT, **changes: Any) -> Report:
    """The page of such a model."""
    model = model_of(card, figures, split_csv, **changes)
    photographs = Photographs([], [], [], 0, 0)
    return report.collect(model, EMPTY_CHARTS, photographs, clean=CLEAN, split_csv=split_csv)


def test_leaked_test_images_are_on_the_page_and_in_a_warning(
    figures: Figures, capsys: pytest.CaptureFixture[str]
) -> None:
    card, of_model = model_folder.load(MODELS)[1], read_figures(figures)
    evaluation.warn_of_leaks(model_of(card, of_model))
    assert capsys.readouterr().err == ""
    leaked = (False, True, False)
    evaluation.warn_of_leaks(model_of(card, of_model, leaked=leaked))
    warning = capsys.readouterr().err
    assert warning.startswith("warning: the accuracy counts images that leaked: 1 test image is of")
    assert warning.endswith("2 of 3 right with it, 2 of 2 without.\n")
    assert "images that leaked" in collect(card, of_model, leaked=leaked).html({})


def test_the_page_begins_with_the_verdict_and_how_to_use_the_model(figures: Figures) -> None:
    params = with_overrides(load_params(), {"evaluate.target_accuracy": 0.5})
    page = collect(model_folder.load(MODELS)[1], read_figures(figures), params=params)
    former = Verdict(Outcome.BAD, "Worse than the model of commit 3f9c2ab1", "On all <images>.")
    html = page.html({}, ReportOrigin("3f9c2ab1" * 5, "2024-12-31", True, "bold-aunt", former))
    first_screen = html[html.index("<body>") : html.index("<nav>")]
    parts = [
        "<b><bdi>sample</bdi></b>",
        "commit <code>3f9c2ab1</code> with changes",
        "2024-12-31",
        "experiment <bdi>bold-aunt</bdi>",
        f"<h1>Right on {page.quality.accuracy} of {figures['n']} test images</h1>",
        '<li class="good"><b>Target of 50.0 % reached</b>',
        "always answering “",
        '<li class="bad"><b>Worse than the model of commit 3f9c2ab1</b>'
        "<span>On all &lt;images&gt;.</span>",
        "pipeline predict photo.jpg",
    ]
    places = [first_screen.index(part) for part in parts]
    assert places == sorted(places)


def test_without_a_commit_or_a_target_the_page_has_neither(figures: Figures) -> None:
    html = REPORT.read_text()
    assert "· commit" not in html
    assert "Target of" not in html
    assert "always answering" in html


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("dataset.source", "/odd/folder of ann/photos.zip", "photos.zip"),
        ("model.weights", "/odd/folder of ann/weights.pth", "weights.pth"),
    ],
)
def test_no_path_of_a_machine_is_on_the_page(
    figures: Figures, key: str, value: str, name: str
) -> None:
    params = with_overrides(load_params(), {key: value})
    html = collect(model_folder.load(MODELS)[1], read_figures(figures), params=params).html({})
    assert f"<code>{name}</code>" in html
    assert "/odd" not in html


def test_mistakes_are_beside_the_training_images_that_are_like_them(
    figures: Figures, params: Params
) -> None:
    examples = read_examples(SPLIT, CLEAN)
    model = test_set.load_model(MODELS, Path("data/features"), CLEAN, examples, params.device)
    rows = examples.rows("test")[:2]
    neighbours = find_neighbours(model.source, examples, rows, CLEAN)
    sample = PicturedSample(np.zeros((4, 4, 3), np.uint8), "plain", "striped", 0.9)
    pictured = {"samples": [], "gradcam": [], "mistakes": [sample] * 2}
    photographs = report.show_photographs(pictured, neighbours)
    page = replace(
        collect(model_folder.load(MODELS)[1], read_figures(figures)), photographs=photographs
    )
    html = page.html({})
    for mistake, similar in zip(photographs.mistakes, neighbours.of_images, strict=True):
        assert [image.label for image in mistake.neighbours] == [image.label for image in similar]
        assert [image.similarity for image in mistake.neighbours] == [
            f"{image.similarity:.2f}" for image in similar
        ]
        assert all(image.picture in html for image in mistake.neighbours)
    (beside,) = {page_figure.section for page_figure in Page(html).figures if page_figure.picture}
    assert beside == "The most confident mistakes"


def test_few_images_are_counts_and_not_percentages(figures: Figures) -> None:
    written = read_figures(figures)
    of_plain, of_striped = written.classes
    few = replace(
        written,
        classes=[
            replace(of_plain, n=40, predicted=9, correct=8),
            replace(of_striped, n=4, correct=3, recall=0.75, predicted=0, precision=None),
        ],
        slices=[SliceFigures("folder_x", 1, 1, 1.0), SliceFigures("folder_y", 10, 9, 0.9)],
    )
    page = collect(model_folder.load(MODELS)[1], few)
    rows = [dict(zip(CLASS_FIGURES, row.cells, strict=True)) for row in page.tables.classes]
    plain, striped, _ = rows
    assert (plain["precision"], plain["recall"]) == ("8 of 9", f"{of_plain.recall:.4f}")
    assert (striped["recall"], striped["precision"]) == ("3 of 4", "–")
    assert striped["f1"] == striped["roc_auc"] == striped["average_precision"] == "–"
    accuracies = {row.name: row.accuracy for row in page.tables.slices}
    assert (accuracies["folder x"], accuracies["folder y"]) == ("1 of 1", "90.0 %")
    assert "For fewer than 10 images the tables have counts" in page.html({})


def test_a_test_set_of_few_images_has_no_percentage(figures: Figures) -> None:
    few = figures | {"n": 4, "correct": 3, "accuracy": 0.75}
    page = collect(model_folder.load(MODELS)[1], read_figures(few))
    assert page.quality.roc_auc == page.quality.calibration_error == "–"
    assert page.tables.classes[-1].cells == ["", "", "–", "–", "–", "–", "–"]
    html = page.html({})
    assert "<h1>Right on 3 of 4 test images</h1>" in html
    assert "75.0 %" not in html
    assert "4 images are too few to measure how far the probabilities are off." in html


def test_names_are_escaped_on_the_page(figures: Figures) -> None:
    name = "<script>alert(1)</script>"
    _, card = model_folder.load(MODELS)
    written = read_figures(figures)
    plain, striped = written.classes
    renamed = replace(written, classes=[plain, replace(striped, label=name)])
    split = Path("other.csv")
    split.write_text(SPLIT.read_text().replace("striped", name))
    card = card.model_copy(update={"classes": ["plain", name]})
    page = collect(card, renamed, split, groups=[0, 0, ALONE])
    page = replace(page, dataset=name, params={"train": {"lr": name}})
    html = page.html({"git.commit": "<b>1f</b>"})
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>1f</b>" not in html


def test_class_names_in_any_script_are_text_on_the_page(
    figures: Figures, params: Params, capfd: pytest.CaptureFixture[str]
) -> None:
    """matplotlib's warnings about glyphs are errors here; ours is one line, if no font has them."""
    names = ["蚂蚁", "_$x$ <b>"]
    examples = read_examples(SPLIT, CLEAN)
    model = test_set.load_model(MODELS, Path("data/features"), CLEAN, examples, params.device)
    result = test_set.run_on_test_set(model, replace(examples, classes=names))
    Path("drawn").mkdir()
    drawing = SameProcess()
    curves = drawing.submit(draw_curves, history.read(HISTORY))
    facts = collect_chart_facts(result)
    pending = request_pictures(drawing, curves, facts, model, result, CLEAN, 5)
    pending.write(Path("drawn"))
    assert len(capfd.readouterr().err.splitlines()) <= 1
    points = pending.charts.result().points
    drawn = draw_report_charts(history.read(HISTORY), facts, result, points)
    page = replace(collect(model.card, read_figures(figures)), charts=drawn)
    html = page.html({})
    Page(html)
    # A row of the chart of classes, and both axes of the confusion matrix.
    for name in ("蚂蚁", r"_\$x\$ &lt;b&gt;"):
        assert len(re.findall(f'class="name"[^>]*>{name}</text>', html)) == 3
    assert html.count("<bdi>蚂蚁</bdi></span>") == 3  # keys of two kinds of curves, and of the map


def test_owners_are_credited_on_the_page(figures: Figures) -> None:
    rows = shards.columns(CLEAN, shards.CLEAN.names).to_pylist()
    owned = [row | {"owner": "<Ann>" if number % 2 else None} for number, row in enumerate(rows)]
    shards.write(CLEAN, shards.CLEAN, owned)
    page = collect(model_folder.load(MODELS)[1], read_figures(figures))
    owner = f"<bdi>&lt;Ann&gt;</bdi> ({len(rows) // 2})"
    assert f'By 1 owner</summary><p class="soft">{owner}' in page.html({})


def test_images_that_are_not_those_of_the_data_set_are_named_below_the_heading(
    figures: Figures,
) -> None:
    card = model_folder.load(MODELS)[1]
    written = read_figures(figures)
    assert "not the images" not in collect(card, written).html({})
    deviation = card.model_copy(update={"deviation": "<x>.zip has 5 bytes"})
    html = collect(deviation, written).html({})
    _, _, below = html.partition("</h1>")
    assert below.strip().startswith(
        '<p class="bad"><b>These are not the images that the data set describes:</b> '
        "&lt;x&gt;.zip has 5 bytes.</p>"
    )


def test_of_many_classes_the_page_shows_the_worst_and_the_largest(figures: Figures) -> None:
    written = read_figures(figures)
    plain = written.classes[0]
    names = [f"class {number:04d}" for number in range(2000)]
    many = replace(written, classes=[replace(plain, label=name) for name in names])
    card = model_folder.load(MODELS)[1].model_copy(update={"classes": names})
    split = Path("other.csv")
    split.write_text(SPLIT.read_text().replace("striped", names[0]).replace("plain", names[0]))
    page = collect(card, many, split)
    assert len(page.tables.classes) == MAX_CLASSES + 1
    assert list(page.data.counts) == [row.name for row in page.tables.classes[:-1]]
    html = page.html({})
    assert "15 worst and 15 largest of 2000 classes" in html
    assert "class 0029, and 1,970 more" in html
    assert len(html) < 100_000
