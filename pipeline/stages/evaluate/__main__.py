"""Stage evaluate: how good the model is on the test set, and where it fails."""

from pathlib import Path

from pipeline.core import history, program, stage
from pipeline.stages.evaluate.drawing import draw_curves
from pipeline.stages.evaluate.drawing_process import DrawingProcess
from pipeline.tracking.recorder import Recorder


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
    with DrawingProcess() as drawing, Recorder() as recorder:
        curves = drawing.submit(draw_curves, history.read(history_csv))
        with program.imports():  # of torch, while the processes import what draws, and mlflow
            from pipeline.stages.evaluate.evaluation import Inputs, Outputs, evaluate

        inputs = Inputs(models, features, clean, split_csv, history_csv)
        evaluate(recorder, drawing, curves, inputs, Outputs(metrics_json, test, report_html))


if __name__ == "__main__":
    stage.run(main)
