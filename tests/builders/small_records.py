"""Trainings and evaluations of no network, recorded whole in the process of the test."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from mlflow.entities import Run
from torch import nn

from pipeline.core import dvc_lock
from pipeline.core.history import Record
from pipeline.params import Params
from pipeline.tracking import logged_model, provenance, record, store
from pipeline.tracking import run as tracking_run
from pipeline.tracking.missing_parts import missing_parts
from pipeline.tracking.result import TrainedResult
from pipeline.tracking.run_names import TRAINED
from tests.builders.images import grey_png
from tests.builders.training_runs import save_small_model, training_run

FINGERPRINT = "f" * 20
HISTORY = [
    Record(epoch, float(epoch), 0.1, 2 / epoch, 0.5, val_loss=1 / epoch, val_accuracy=0.5)
    for epoch in (1, 2)
]
METRICS = {"accuracy": 0.9, "correct": 9, "n": 10, "loss": 0.1, "recall.bee": 0.5}
VALUES = {provenance.DATASET: "sample", "train.lr": 0.1, "train.log_checkpoints": "best"}
# Few, because MLflow loads them with every run.
PARAMS = cast(
    "Params", SimpleNamespace(dataset=SimpleNamespace(name="sample"), flat=lambda: VALUES)
)
SPLIT, MODELS, TEST = Path("data/split.csv"), Path("models"), Path("test")
AUGMENTED = Path("augmented.png")


def write_results() -> None:
    """Write what a training and an evaluation leave, into the working directory."""
    SPLIT.parent.mkdir()
    SPLIT.write_text("id,label,split,group\n1,bee,train,\n2,bee,val,\n3,bee,test,\n")
    MODELS.mkdir()
    (MODELS / "model.safetensors").write_bytes(b"weights")
    (MODELS / "model.json").write_text("{}")
    Path("params.yaml").write_text("{}")
    AUGMENTED.write_bytes(grey_png(1))
    TEST.mkdir()
    (TEST / "samples.png").write_bytes(grey_png(2))


def make_records_small(patch: pytest.MonkeyPatch) -> None:
    """Log a model of one file, and no system metrics: their thread has calls of its own."""
    patch.setattr(logged_model, "save_model", save_small_model)
    patch.setattr(tracking_run.Run, "log_system_metrics", lambda _: None)


def record_training(history: Sequence[Record] = HISTORY) -> None:
    """What train records."""
    suffix = nn.Linear(2, 1)
    with training_run(PARAMS, FINGERPRINT, SPLIT) as run:
        for row in history:
            run.log_validation(row)
        run.log_file(AUGMENTED, "train")
        run.log_checkpoint(suffix, TRAINED)
        record.log_trained(run, MODELS, history)


def record_evaluation() -> bool:
    """What evaluate records; whether the run is complete."""
    return record.record_evaluation(
        TrainedResult(
            VALUES,
            provenance.run_tags(FINGERPRINT),
            provenance.read_files(""),
            MODELS,
            lambda: nn.Linear(2, 1),
            HISTORY,
            AUGMENTED,
            SPLIT,
            METRICS,
            TEST,
            "<p>report</p>",
        )
    )


def recorded_runs() -> list[Run]:
    """The runs of the training, newest first."""
    store.connect()
    return store.search_runs(f"tags.`{provenance.FINGERPRINT}` = '{FINGERPRINT}'")


def lacking(run: Run) -> list[str]:
    """The parts of the results that a run lacks."""
    results = {
        provenance.MODELS: dvc_lock.digest(MODELS),
        provenance.TEST: dvc_lock.digest(TEST),
    }
    return missing_parts(run, results)
