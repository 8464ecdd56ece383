"""Stage evaluate: how good the model is on the test set, and where it fails."""

from pathlib import Path

from pipeline.core import history, program, stage
from pipeline.stages.evaluate.drawing import draw_curves
from pipeline.stages.evaluate.drawing_process import DrawingProcess
from pipeline.stages.evaluate.evaluation_files import EvaluationInputs, EvaluationOutputs
from pipeline.tracking.recorder import Recorder


def _score_part(inputs: EvaluationInputs, part: str, key: str) -> None:
    with program.imports():
        from pipeline.distributed.parts import Part
        from pipeline.stages.evaluate.part import score_part
    score_part(inputs, Part.parse(part), key)


def main(
    models: Path,
    features: Path,
    clean: Path,
    split_csv: Path,
    history_csv: Path,
    metrics_json: Path,
    test: Path,
    report_html: Path,
    *,
    part: str = "",
    key: str = "",
) -> None:
    """Test MODELS on the test set; write METRICS_JSON, REPORT_HTML, and the rest into TEST.

    With --part 2/8, compute the scores of the second of eight parts and write nothing: see
    docs/cluster.md.
    """
    inputs = EvaluationInputs(models, features, clean, split_csv, history_csv)
    if part:
        _score_part(inputs, part, key)
        return
    with DrawingProcess() as drawing, Recorder() as recorder:
        curves = drawing.submit(draw_curves, history.read(history_csv))
        with program.imports():  # of torch, while the processes import what draws, and mlflow
            from pipeline.stages.evaluate import evaluation
        outputs = EvaluationOutputs(metrics_json, test, report_html)
        evaluation.evaluate(recorder, drawing, curves, inputs, outputs)


if __name__ == "__main__":
    stage.run(main)
