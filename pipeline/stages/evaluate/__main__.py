"""Stage evaluate: how good the model is on the test set, and where it fails."""

import json
from pathlib import Path

from pipeline.core import atomic, history, stage
from pipeline.core.terminal import print_line
from pipeline.network.examples import read_examples
from pipeline.params import load_params
from pipeline.stages.evaluate import predictions_csv, report, test_set
from pipeline.stages.evaluate.metrics import headline
from pipeline.stages.evaluate.mlflow_record import record_evaluation
from pipeline.stages.evaluate.pictures import write_pictures
from pipeline.stages.evaluate.predictions_csv import write_predictions
from pipeline.stages.evaluate.slices import read_facts, slices
from pipeline.tracking import provenance


def main(
    models: Path,
    features: Path,
    clean: Path,
    split_csv: Path,
    history_csv: Path,
    metrics_json: Path,
    test: Path,
    report_html: Path,
) -> None:
    """Test MODELS on the test set; write METRICS_JSON, REPORT_HTML, and the rest into TEST."""
    params, examples = load_params(), read_examples(split_csv, clean)
    model = test_set.load_model(models, features, clean, examples, params.device)
    result = test_set.run_on_test_set(model, examples)
    images = read_facts(clean, split_csv, result.ids)
    groups = [image.group for image in images]
    figures = test_set.compute_figures(result, groups, slices(images, model.card), model.card)
    with atomic.replacing(test) as folder:
        folder.mkdir()
        rows = test_set.prediction_rows(result, groups)
        write_predictions(folder / predictions_csv.NAME, result.classes, rows)
        validations = history.read(history_csv)
        count = params.evaluate.samples
        pictures = write_pictures(folder, validations, model, result, clean, count)
    atomic.write_text(metrics_json, json.dumps(figures, indent=2) + "\n")
    paths = {"test": test, "clean": clean, "split_csv": split_csv}
    page = report.collect(params, model.card, figures, pictures, **paths)
    tags = provenance.run_tags(model.card.fingerprint, model.card.deviation)
    atomic.write_text(report_html, page.html(provenance.data_tags(tags)))
    inputs = {"models": models, "history_csv": history_csv, "split_csv": split_csv}
    note = record_evaluation(params, model, page, tags, **inputs, test=test)
    print_line(f"evaluate: {headline(figures)}{note}")


if __name__ == "__main__":
    stage.run(main)
