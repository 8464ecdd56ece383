"""A training and its evaluation are recorded whole, wherever the record was interrupted before.

Every write to MLflow's database and artifacts is one place to be killed, and every call of its
client one to fail.
"""

import errno
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from torch import nn

from pipeline.core import dvc_lock
from pipeline.params import Params
from pipeline.tracking import logged_model, process_lock, provenance, record, store
from pipeline.tracking import run as tracking_run
from pipeline.tracking.missing_parts import missing_parts
from pipeline.tracking.result import TrainedResult
from pipeline.tracking.run import CURVES, KEPT
from pipeline.tracking.run_names import TRAINED as LAST_CHECKPOINT
from tests.builders.images import grey_png

FINGERPRINT = "f" * 20
HISTORY = [
    {
        "step": epoch,
        "epoch": epoch,
        "lr": 0.1,
        "train_loss": 2 / epoch,
        "train_accuracy": 0.5,
        "val_loss": 1 / epoch,
        "val_accuracy": 0.5,
    }
    for epoch in (1, 2)
]
METRICS = {"accuracy": 0.9, "correct": 9, "n": 10, "loss": 0.1, "recall.bee": 0.5}
VALUES = {provenance.DATASET: "sample", "train.lr": 0.1, "train.log_checkpoints": "best"}
# Few, because MLflow loads them with every run.
PARAMS = cast(
    "Params", SimpleNamespace(dataset=SimpleNamespace(name="sample"), flat=lambda: VALUES)
)
SPLIT = Path("data/split.csv")
TRAINED = Path("trained")  # stands for the entry of train in dvc.lock
MAX_PLACES = 200


@dataclass
class Interruption:
    """Interrupts the process at one of the places that it passes."""

    place: int
    act: Callable[[], None]
    passed: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) == self.place:
            self.act()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(error: Exception) -> None:
    raise error


def engine() -> Any:
    return SqlAlchemyStore._engine_map[f"sqlite:///{Path('mlflow.db').resolve()}"]


def do_not_sync(connection: Any, _: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture
def project(world: Path, mlflow_db: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a trained model whose logged form is small; its store is open."""
    SPLIT.parent.mkdir()
    SPLIT.write_text("id,label,split,group\n1,bee,train,\n2,bee,val,\n3,bee,test,\n")
    models = Path("models")
    models.mkdir()
    (models / "model.safetensors").write_bytes(b"weights")
    (models / "model.json").write_text("{}")
    Path("augmented.png").write_bytes(grey_png(1))
    Path("test").mkdir()
    Path("test/samples.png").write_bytes(grey_png(2))

    def save_model(folder: Path, _: Path, model: LoggedModel) -> None:
        folder.mkdir()
        (folder / "MLmodel").write_text(model.model_id)

    monkeypatch.setattr(logged_model, "save_model", save_model)
    # Its thread has calls of its own.
    monkeypatch.setattr(tracking_run.Run, "log_system_metrics", lambda _: None)
    store.experiment_id("sample")
    engine().dispose()
    event.listen(
        engine(), "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF")
    )
    shutil.copy("mlflow.db", "new.db")
    return world


def reset() -> None:
    """Remove what was recorded."""
    engine().dispose()
    for path in Path().glob("mlflow.db-*"):
        path.unlink()
    shutil.copyfile("new.db", "mlflow.db")
    for folder in ("mlartifacts", ".cache/runs"):
        shutil.rmtree(folder, ignore_errors=True)
    TRAINED.unlink(missing_ok=True)


def train() -> None:
    suffix = nn.Linear(2, 1)
    with record.training_run(PARAMS, FINGERPRINT, SPLIT) as run:
        for row in HISTORY:
            run.log_validation(row)
        run.log_file(Path("augmented.png"), "train")
        run.log_checkpoint(suffix, LAST_CHECKPOINT)
        record.log_trained(run, Path("models"), HISTORY)
    TRAINED.touch()


def evaluate() -> bool:
    return record.record_evaluation(
        TrainedResult(
            VALUES,
            provenance.run_tags(FINGERPRINT),
            provenance.read_files(""),
            Path("models"),
            lambda: nn.Linear(2, 1),
            HISTORY,
            Path("augmented.png"),
            SPLIT,
            METRICS,
            Path("test"),
            "<p>report</p>",
        )
    )


def record_all() -> bool:
    """What `dvc repro` does: it trains if it has no model, and evaluates."""
    if not TRAINED.exists():
        train()
    return evaluate()


def recorded_runs() -> list[Run]:
    store.connect()
    return store.search_runs(f"tags.`{provenance.FINGERPRINT}` = '{FINGERPRINT}'")


def lacking(run: Run) -> list[str]:
    results = {
        provenance.MODELS: dvc_lock.digest(Path("models")),
        provenance.TEST: dvc_lock.digest(Path("test")),
    }
    return missing_parts(run, results)


def rows(query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect("mlflow.db")) as database:
        return list(database.execute(query))


def contents() -> dict[str, Any]:
    """Everything that was recorded, without ids and times."""
    (run,) = recorded_runs()
    (model,) = rows("SELECT model_id, status FROM logged_models WHERE lifecycle_stage != 'deleted'")
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    metrics = "FROM metrics ORDER BY key, step, timestamp, value"
    return {
        "status": run.info.status,
        "params": run.data.params,
        "metrics": rows(f"SELECT key, step, value {metrics}"),
        "tags": {
            name: value.replace(run.info.run_id, "ID")
            for name, value in run.data.tags.items()
            if name != process_lock.PROCESS
        },
        "inputs": rows(
            "SELECT value, digest FROM datasets JOIN inputs ON source_id = dataset_uuid "
            "JOIN input_tags USING (input_uuid) ORDER BY digest"
        ),
        "files": sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        ),
        "is ready": model[1] == LoggedModelStatus.READY.to_int(),
        "is linked": rows("SELECT destination_id FROM inputs WHERE source_type = 'RUN_OUTPUT'")
        == [model[:1]],
        "model": rows("SELECT metric_name, metric_value FROM logged_model_metrics ORDER BY 1"),
        "model files": len(list(Path("mlartifacts").rglob("MLmodel"))),
        "locks": list(Path(".cache/runs").iterdir()),
    }


@pytest.fixture
def params() -> Params:
    """Few params: MLflow loads them with every run."""
    values = {provenance.DATASET: "sample", "train.lr": 0.1, "train.log_checkpoints": "best"}
    section = SimpleNamespace(name="sample")
    return cast("Params", SimpleNamespace(dataset=section, flat=lambda: values))


@pytest.fixture
def whole(project: Path) -> dict[str, Any]:
    """What is recorded if nothing interrupts it."""
    assert record_all()
    (run,) = recorded_runs()
    assert lacking(run) == []
    whole = contents()
    assert (whole["status"], whole["is ready"], whole["is linked"]) == ("FINISHED", True, True)
    assert len(whole["metrics"]) == 2 * len(CURVES) + len(KEPT) + len(METRICS)
    headlines = [name for name in whole["model"] if name[0].startswith("test/")]
    assert len(headlines) == 2
    assert len(whole["model"]) == len(CURVES) + len(headlines)
    return whole


@pytest.fixture
def interrupt_writes() -> Iterator[Callable[[Interruption], None]]:
    """A function that lets an interruption pass all writes of this test."""
    with pytest.MonkeyPatch.context() as patch:
        listeners: list[tuple[str, Callable[..., None]]] = []

        def start(interruption: Interruption) -> None:
            def execute(connection: Any, _: object, statement: str, *__: object) -> None:
                if statement.startswith(("INSERT", "UPDATE", "DELETE")):
                    connection.info["statement"] = statement

            def commit(connection: Any) -> None:
                if statement := connection.info.pop("statement", ""):
                    interruption(" ".join(statement.split()[:3]))

            for name, listener in (("before_cursor_execute", execute), ("commit", commit)):
                event.listen(engine(), name, listener)
                listeners.append((name, listener))
            for name in ("log_artifact", "log_artifacts"):
                original = getattr(LocalArtifactRepository, name)

                def passing(*arguments: Any, original: Any = original, name: str = name) -> None:
                    interruption(name)
                    original(*arguments)

                patch.setattr(LocalArtifactRepository, name, passing)

        yield start
        for name, listener in listeners:
            event.remove(engine(), name, listener)


def test_a_record_that_is_killed_at_any_write_is_completed(
    whole: dict[str, Any],
    interrupt_writes: Callable[[Interruption], None],
) -> None:
    for place in range(1, MAX_PLACES):
        reset()
        child = os.fork()
        if child == 0:
            try:
                interrupt_writes(Interruption(place, kill))
                record_all()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        engine().dispose()
        for run in recorded_runs():
            assert lacking(run), place  # `pipeline runs` tells
        assert record_all(), place
        assert contents() == whole, place
    assert 20 < place < MAX_PLACES - 1


ERRORS = (
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    MlflowException("the server is ill"),
    OperationalError("INSERT", {}, Exception("database or disk is full")),
)


def interrupt_calls(patch: pytest.MonkeyPatch, interruption: Interruption) -> None:
    """Let an interruption pass all calls of MLflow's client: they have their effect."""
    for name, method in vars(MlflowClient).items():
        if name.startswith("_") or not callable(method):
            continue

        def passing(*arguments: Any, method: Any = method, name: str = name, **options: Any) -> Any:
            result = method(*arguments, **options)
            interruption(name)
            return result

        patch.setattr(MlflowClient, name, passing)


def test_a_record_whose_store_fails_at_any_call_is_completed(
    whole: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer of each call is lost. To what was written, it is as if the next was refused."""
    for place in range(1, MAX_PLACES):
        reset()
        interruption = Interruption(place, partial(fail, ERRORS[place % len(ERRORS)]))
        with pytest.MonkeyPatch.context() as patch:
            interrupt_calls(patch, interruption)
            is_whole = record_all()
        if len(interruption.passed) < place:
            break
        call = interruption.passed[place - 1]
        assert capsys.readouterr().err.count("warning: MLflow at") == 1, (place, call)
        assert is_whole == any(not lacking(run) for run in recorded_runs()), (place, call)
        assert is_whole or evaluate(), (place, call)
        assert contents() == whole, (place, call)
    assert 20 < place < MAX_PLACES - 1
