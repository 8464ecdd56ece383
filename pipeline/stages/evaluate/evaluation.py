"""An evaluation: the model's test result, written as figures, tables, pictures and a report."""

import json
from concurrent.futures import Executor, Future
from pathlib import Path

from pipeline.core import atomic, history
from pipeline.core.columns import Column
from pipeline.core.terminal import print_line, warn
from pipeline.network import calibration
from pipeline.network.calibration import Bins
from pipeline.network.examples import read_examples
from pipeline.params import load_params
from pipeline.stages.evaluate import (
    abstention_result,
    intervals,
    metrics,
    predictions_csv,
    report,
    tables,
    test_set,
)
from pipeline.stages.evaluate.abstention_result import write_sets
from pipeline.stages.evaluate.confusions import confusion_matrix
from pipeline.stages.evaluate.drawing import MAX_CURVES, ChartFacts
from pipeline.stages.evaluate.embedding import MAX_IMAGES
from pipeline.stages.evaluate.evaluated_model import EvaluatedModel
from pipeline.stages.evaluate.evaluation_files import EvaluationInputs, EvaluationOutputs
from pipeline.stages.evaluate.figures_csv import write_figures
from pipeline.stages.evaluate.metrics import headline
from pipeline.stages.evaluate.mlflow_record import record_evaluation
from pipeline.stages.evaluate.neighbours import find_neighbours
from pipeline.stages.evaluate.origin import read_origin
from pipeline.stages.evaluate.pictures import PendingPictures, request_pictures
from pipeline.stages.evaluate.predictions_csv import write_predictions
from pipeline.stages.evaluate.probabilities import ImageProbabilities, Labels
from pipeline.stages.evaluate.report import Report
from pipeline.stages.evaluate.report_charts import draw_report_charts
from pipeline.stages.evaluate.slices import read_facts, slices
from pipeline.stages.evaluate.test_scores import remember_scores
from pipeline.stages.evaluate.test_set import TestSetResult
from pipeline.stages.evaluate.verdict import accuracy_interval, judge_leaks
from pipeline.tracking import provenance
from pipeline.tracking.recorder import Recorder


def evaluate(
    recorder: Recorder,
    drawing: Executor,
    curves: Future[bytes],
    inputs: EvaluationInputs,
    outputs: EvaluationOutputs,
) -> None:
    """Test the model on the test set, write the result, and record it in MLflow.

    Args:
        recorder: It imports MLflow while this process works.
        drawing: Draws pictures while this process works.
        curves: Those of the training.
    """
    params, clean, split_csv = load_params(), inputs.clean, inputs.split_csv
    examples = read_examples(split_csv, clean)
    loaded = test_set.load_model(inputs.models, inputs.features, clean, examples, params.device)
    is_stored = loaded.halves.index.stored
    remembered = None if is_stored else remember_scores(loaded.halves, inputs, examples)
    result = test_set.run_on_test_set(loaded, examples, remembered)
    facts = collect_chart_facts(result)
    pending = request_pictures(
        drawing, curves, facts, loaded, result, clean, params.evaluate.samples
    )
    mistakes = result.mistakes()[: min(report.MAX_SAMPLES, params.evaluate.samples)]
    neighbours = find_neighbours(loaded.source, examples, examples.rows("test")[mistakes], clean)
    images = read_facts(clean, split_csv, result.ids)
    groups = intervals.number_groups(images.groups)
    parts = slices(images, loaded.card.preprocess.resize)
    figures = test_set.compute_figures(result, groups, parts, loaded.card.temperature)
    card, is_leaked = loaded.card, images.is_leaked
    model = EvaluatedModel(params, card, examples, result, groups, figures, is_leaked)
    _write_figures(outputs, model, facts, images.groups, pending)
    charts = draw_report_charts(
        history.read(inputs.history_csv), facts, result, pending.charts.result().points
    )
    photographs = report.show_photographs(pending.photographs, neighbours)
    page = report.collect(model, charts, photographs, clean=clean, split_csv=split_csv)
    note = _publish(recorder, model, page, inputs, outputs)
    interval = accuracy_interval(figures.summary, groups)
    line = headline(figures.summary, interval)
    print_line(f"evaluate: {line}; see {outputs.report_html}{note}")
    warn_of_leaks(model)


def warn_of_leaks(model: EvaluatedModel) -> None:
    """Say what the accuracy would be without the test images that leaked, if there are any."""
    if leaks := judge_leaks(model.result.predicted == model.result.labels, model.is_leaked):
        warn(f"{leaks.title[0].lower()}{leaks.title[1:]}: {leaks.evidence}")


def _write_figures(
    outputs: EvaluationOutputs,
    model: EvaluatedModel,
    facts: ChartFacts,
    groups: Column,
    pending: PendingPictures,
) -> None:
    """Write metrics.json, and the folder of tables and pictures.

    Args:
        groups: (N,) As in predictions.csv.
        pending: The pictures, which may still be being drawn.
    """
    result, figures = model.result, model.figures
    with atomic.replacing(outputs.test) as folder:
        folder.mkdir()
        rows = test_set.prediction_rows(result, groups)
        write_predictions(folder / predictions_csv.NAME, rows, result.top.count)
        write_figures(folder, figures)
        _write_tables(folder, result, facts)
        pending.write(folder)
        points = pending.charts.result().points
        tables.write_embedding(folder / "embedding.csv", points, result)
        if result.sets is not None:
            write_sets(folder / abstention_result.NAME, result.sets, result.labels, result.classes)
    atomic.write_text(outputs.metrics_json, json.dumps(figures.summary, indent=2) + "\n")


def _publish(
    recorder: Recorder,
    model: EvaluatedModel,
    page: Report,
    inputs: EvaluationInputs,
    outputs: EvaluationOutputs,
) -> str:
    """Write the report, and record the result in MLflow with a copy that knows the commit.

    Returns:
        A note for the summary if the run lacks something.
    """
    tags = provenance.run_tags(model.card.fingerprint, model.card.deviation)
    atomic.write_text(outputs.report_html, page.html(provenance.data_tags(tags)))
    origin = read_origin(tags, model.result, model.groups, outputs.test)
    return record_evaluation(
        recorder,
        model.params,
        model.figures,
        page.html(provenance.known_tags(tags), origin),
        tags,
        models=inputs.models,
        history_csv=inputs.history_csv,
        split_csv=inputs.split_csv,
        test=outputs.test,
    )


def collect_chart_facts(result: TestSetResult) -> ChartFacts:
    """What the charts of a result show."""
    classes, labels = result.classes, result.labels
    drawn = metrics.select_classes(result.class_figures, MAX_CURVES)
    curves = {classes[number]: result.curves[classes[number]] for number in drawn.numbers}
    return ChartFacts(
        classes=classes,
        confusion=confusion_matrix(labels, result.predicted, classes),
        roc={name: of_class.roc for name, of_class in curves.items()},
        precision_recall={name: of_class.precision_recall for name, of_class in curves.items()},
        curves_title=drawn.title,
        as_trained=_reliability_bins(result.as_trained, labels),
        calibrated=_reliability_bins(result.calibrated, labels),
        embedding=result.embedding[:MAX_IMAGES],
        labels=labels[:MAX_IMAGES],
        predicted=result.predicted[:MAX_IMAGES],
    )


def _reliability_bins(probabilities: ImageProbabilities, labels: Labels) -> Bins:
    correct = probabilities.predicted == labels
    return calibration.reliability_bins(probabilities.of_predicted, correct)


def _write_tables(folder: Path, result: TestSetResult, facts: ChartFacts) -> None:
    """Write the tables behind the charts; those of curves have more classes than the pictures."""
    tables.write_confusion(folder / "confusion.csv", facts.confusion)
    roc = {name: curves.roc for name, curves in result.curves.items()}
    precision_recall = {name: curves.precision_recall for name, curves in result.curves.items()}
    tables.write_curves(folder / "roc.csv", roc)
    tables.write_curves(folder / "precision_recall.csv", precision_recall)
    tables.write_reliability(folder / "reliability.csv", facts.as_trained, facts.calibrated)
