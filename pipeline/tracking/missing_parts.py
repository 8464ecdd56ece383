"""What a run lacks of the whole record of a result."""

from collections.abc import Mapping

from mlflow import MlflowClient

from pipeline.tracking import provenance
from pipeline.tracking.run_model import has_ready_model
from pipeline.tracking.store import MlflowRun

# The tag that is set when all of a part was logged, and a metric that was logged before.
MARKS = {
    "training": (provenance.MODELS, "kept/val_loss"),
    "test result": (provenance.TEST, "test/accuracy"),
}
FILES = (provenance.FOLDER, "report.html", "test")
CHECKPOINT, LOG_CHECKPOINTS = "checkpoint", "train.log_checkpoints"
OF_EVALUATION = {"test result", "metrics of the test result", "report.html", "test"}
END = "end"


def missing_parts(run: MlflowRun, results: Mapping[str, str], with_files: bool = True) -> list[str]:
    """The parts of a result that its run lacks.

    Args:
        results: DVC's digests of the result, by tag.
        with_files: Whether to ask the server for the model and the artifacts of a run that has
            all tags of a whole one.
    """
    parts = [] if run.data.params else ["params"]
    for part, (tag, metric) in MARKS.items():
        if run.data.tags.get(tag) != results[tag]:
            parts.append(part)
        elif metric not in run.data.metrics:
            parts.append(f"metrics of the {part}")
    if not parts and with_files:
        parts = _missing_files(run)
    return parts + ([END] if run.info.status != "FINISHED" else [])


def _missing_files(run: MlflowRun) -> list[str]:
    has_checkpoint = run.data.params.get(LOG_CHECKPOINTS, "none") != "none"
    artifacts = {file.path for file in MlflowClient().list_artifacts(run.info.run_id)}
    model = [] if has_ready_model(run) else ["model"]
    expected = (*FILES, CHECKPOINT) if has_checkpoint else FILES
    return model + [name for name in expected if name not in artifacts]
