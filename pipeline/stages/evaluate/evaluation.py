"""An evaluation: the model's test result, written as figures, tables, pictures and a report."""

import json
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import atomic
from pipeline.core.terminal import print_line
from pipeline.network import calibration
from pipeline.network.examples import read_examples
from pipeline.params import load_params
from pipeline.stages.evaluate import metrics, predictions_csv, report, tables, test_set
from pipeline.stages.evaluate.drawing import ChartFacts, Drawing
from pipeline.stages.evaluate.embedding import MAX_IMAGES
from pipeline.stages.evaluate.metrics import headline
from pipeline.stages.evaluate.pictures import request_pictures
from pipeline.stages.evaluate.predictions_csv import write_predictions
from pipeline.stages.evaluate.slices import read_facts, slices
from pipeline.stages.evaluate.test_set import TestSetResult
from pipeline.tracking import provenance


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


def evaluate(drawing: Executor, curves: Future[Drawing], inputs: Inputs, outputs: Outputs) -> None:
    """Test the model on the test set, write the result, and record it in MLflow.

    Args:
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
    groups = [image.group for image in images]
    figures = test_set.compute_figures(result, groups, slices(images, model.card), model.card)
    # It imports MLflow, which takes as long as drawing.
    from pipeline.stages.evaluate.mlflow_record import record_evaluation

    with atomic.replacing(outputs.test) as folder:
        folder.mkdir()
        rows = test_set.prediction_rows(result, groups)
        write_predictions(folder / predictions_csv.NAME, result.classes, rows)
        _write_tables(folder, facts)
        pictures = pending.write(folder)
        tables.write_embedding(folder / "embedding.csv", pending.charts.result().points, result)
    atomic.write_text(outputs.metrics_json, json.dumps(figures, indent=2) + "\n")
    paths = {"test": outputs.test, "clean": clean, "split_csv": split_csv}
    page = report.collect(params, model.card, figures, pictures, **paths)
    tags = provenance.run_tags(model.card.fingerprint, model.card.deviation)
    atomic.write_text(outputs.report_html, page.html(provenance.data_tags(tags)))
    note = record_evaluation(
        params,
        model,
        page,
        tags,
        models=inputs.models,
        history_csv=inputs.history_csv,
        split_csv=split_csv,
        test=outputs.test,
    )
    print_line(f"evaluate: {headline(figures)}{note}")


def collect_chart_facts(result: TestSetResult) -> ChartFacts:
    """What the charts of a result show."""
    classes, labels, probabilities = result.classes, result.labels, result.calibrated
    # A class without test images, or alone in the test set, has no curves.
    numbers = [n for n in range(len(classes)) if 0 < (labels == n).sum() < len(labels)]
    return ChartFacts(
        classes=classes,
        confusion=metrics.confusion(labels, result.predicted, len(classes)),
        roc={classes[n]: metrics.roc(labels, probabilities, n) for n in numbers},
        precision_recall={
            classes[n]: metrics.precision_recall(labels, probabilities, n) for n in numbers
        },
        as_trained=calibration.reliability_bins(result.as_trained, labels),
        calibrated=calibration.reliability_bins(probabilities, labels),
        embedding=result.embedding[:MAX_IMAGES],
        labels=labels[:MAX_IMAGES],
        predicted=result.predicted[:MAX_IMAGES],
    )


def _write_tables(folder: Path, facts: ChartFacts) -> None:
    """Write the tables behind the charts."""
    tables.write_confusion(folder / "confusion.csv", facts.confusion, facts.classes)
    tables.write_curves(folder / "roc.csv", facts.roc)
    tables.write_curves(folder / "precision_recall.csv", facts.precision_recall)
    tables.write_reliability(folder / "reliability.csv", facts.as_trained, facts.calibrated)
