"""An evaluation: the model's test result, written as figures, tables, pictures and a report."""

import json
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import atomic
from pipeline.core.terminal import print_line
from pipeline.network import calibration
from pipeline.network.calibration import Bins
from pipeline.network.examples import read_examples
from pipeline.params import load_params
from pipeline.stages.evaluate import (
    intervals,
    metrics,
    predictions_csv,
    report,
    tables,
    test_set,
)
from pipeline.stages.evaluate.confusions import confusion_matrix
from pipeline.stages.evaluate.drawing import MAX_CURVES, ChartFacts, Drawing
from pipeline.stages.evaluate.embedding import MAX_IMAGES
from pipeline.stages.evaluate.figures_csv import write_figures
from pipeline.stages.evaluate.metrics import headline
from pipeline.stages.evaluate.mlflow_record import record_evaluation
from pipeline.stages.evaluate.pictures import request_pictures
from pipeline.stages.evaluate.predictions_csv import write_predictions
from pipeline.stages.evaluate.probabilities import ImageProbabilities, Labels
from pipeline.stages.evaluate.slices import read_facts, slices
from pipeline.stages.evaluate.test_set import TestSetResult
from pipeline.tracking import provenance
from pipeline.tracking.recorder import Recorder


@dataclass(frozen=True)
class Inputs:
    """Paths of what the stage reads."""

    models: Path
    features: Path
    clean: Path
    split_csv: Path
    history_csv: Path


@dataclass(frozen=True)
class Outputs:
    """Paths of what the stage writes."""

    metrics_json: Path
    test: Path
    report_html: Path


def evaluate(
    recorder: Recorder,
    drawing: Executor,
    curves: Future[Drawing],
    inputs: Inputs,
    outputs: Outputs,
) -> None:
    """Test the model on the test set, write the result, and record it in MLflow.

    Args:
        recorder: It imports MLflow while this process works.
        drawing: Draws pictures while this process works.
        curves: Those of the training.
    """
    params, clean, split_csv = load_params(), inputs.clean, inputs.split_csv
    examples = read_examples(split_csv, clean)
    model = test_set.load_model(inputs.models, inputs.features, clean, examples, params.device)
    result = test_set.run_on_test_set(model, examples)
    facts = collect_chart_facts(result)
    pending = request_pictures(
        drawing, curves, facts, model, result, clean, params.evaluate.samples
    )
    images = read_facts(clean, split_csv, result.ids)
    groups, parts = (
        intervals.number_groups(images.groups),
        slices(images, model.card.preprocess.resize),
    )
    figures = test_set.compute_figures(result, groups, parts, model.card.temperature)
    with atomic.replacing(outputs.test) as folder:
        folder.mkdir()
        rows = test_set.prediction_rows(result, images.groups)
        write_predictions(folder / predictions_csv.NAME, rows, result.top.count)
        write_figures(folder, figures)
        _write_tables(folder, result, facts)
        pictures = pending.write(folder)
        tables.write_embedding(folder / "embedding.csv", pending.charts.result().points, result)
    atomic.write_text(outputs.metrics_json, json.dumps(figures.summary, indent=2) + "\n")
    paths = {"clean": clean, "split_csv": split_csv}
    page = report.collect(params, model.card, figures, result, groups, pictures, **paths)
    tags = provenance.run_tags(model.card.fingerprint, model.card.deviation)
    atomic.write_text(outputs.report_html, page.html(provenance.data_tags(tags)))
    note = record_evaluation(
        recorder,
        params,
        figures,
        page,
        tags,
        models=inputs.models,
        history_csv=inputs.history_csv,
        split_csv=split_csv,
        test=outputs.test,
    )
    print_line(f"evaluate: {headline(figures.summary)}{note}")


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
