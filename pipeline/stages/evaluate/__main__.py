"""Stage evaluate: how good the model is on the test set, and where it fails."""

import json
from pathlib import Path

from pipeline.core import atomic, stage
from pipeline.core import history as records
from pipeline.network import examples as batches
from pipeline.params import load_params
from pipeline.stages.evaluate.pictures import draw
from pipeline.stages.evaluate.report import Page
from pipeline.stages.evaluate.slices import facts_of_test, slices
from pipeline.stages.evaluate.test_set import (
    figures_of,
    load_model,
    run_on_test_set,
    write_predictions,
)
from pipeline.tracking import provenance, record
from pipeline.tracking.record import TrainedResult


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
    """Judge MODELS on the test set; write METRICS_JSON, REPORT_HTML, and the rest into TEST."""
    params, history = load_params(), records.read(history_csv)
    examples = batches.read_examples(split_csv)
    opened = load_model(models, features, clean, examples, params.device)
    judged, card = run_on_test_set(opened, examples), opened.card
    facts = facts_of_test(clean, split_csv, judged.ids)
    groups = [str(fact["group"]) for fact in facts]
    figures = figures_of(judged, groups, slices(facts, card)) | {"temperature": card.temperature}
    with atomic.replacing(test) as staged:
        staged.mkdir()
        write_predictions(staged / "predictions.csv", judged, groups)
        draw(staged, history, opened, judged, clean, params.evaluate.samples)
    atomic.write_text(metrics_json, json.dumps(figures, indent=2) + "\n")
    names = ("images", "model", "features", "head", "train")
    shown = {name: getattr(params, name).model_dump() for name in names}
    page = Page(params.dataset.name, shown, card, figures, test, clean, split_csv, any(groups))
    tags = provenance.everything(card.fingerprint)
    atomic.write_text(report_html, page.html(provenance.of_data(tags)))
    record.evaluation(
        TrainedResult(
            params.flat(),
            tags,
            provenance.files(tags[provenance.COMMIT]),
            models,
            lambda: opened.trained,
            history,
            history_csv.with_name("augmented.png"),
            split_csv,
            figures,
            test,
            page.html(provenance.told(tags)),
        )
    )
    print(
        f"evaluate: accuracy {figures['accuracy']:.4f} ({figures['correct']}/{figures['n']}; "
        f"95 %: {figures['accuracy.wilson_low']:.4f} to {figures['accuracy.wilson_high']:.4f}), "
        f"loss {figures['loss']:.4f}"
    )


if __name__ == "__main__":
    stage.run(main)
