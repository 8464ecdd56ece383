"""A training and its evaluation are recorded whole, wherever the record was interrupted before.

Every write to MLflow's database and artifacts is one place to be killed, and every call of its
client one to fail. A process that is killed at a write leaves the files as they are before it: they
are copied there, so that one process passes all places.
"""

import errno
import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from pipeline.tracking import process_lock, store
from pipeline.tracking.run import BEST_FIGURES, CURVES
from tests.builders.small_records import (
    METRICS,
    lacking,
    make_records_small,
    record_evaluation,
    record_training,
    recorded_runs,
    write_results,
)

TRAINED = Path("trained")  # stands for the entry of train in dvc.lock
RECORD = ("mlflow.db", "mlflow.db-journal", "mlartifacts", ".cache/runs", str(TRAINED))
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


def fail(error: Exception) -> None:
    raise error


def engine() -> Any:
    return SqlAlchemyStore._engine_map[f"sqlite:///{Path('mlflow.db').resolve()}"]


@pytest.fixture
def project(world: Path, mlflow_db: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a trained model whose logged form is small; its store is open."""
    write_results()
    make_records_small(monkeypatch)
    store.experiment_id("sample")
    engine().dispose()
    event.listen(
        engine(), "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF")
    )
    shutil.copy("mlflow.db", "new.db")
    return world


def copy_record(source: Path, target: Path) -> None:
    """Copy the files of a record, as they are at this moment."""
    for name in RECORD:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
        elif (source / name).exists():
            shutil.copyfile(source / name, target / name)


def reset() -> None:
    """Remove what was recorded."""
    engine().dispose()
    for path in Path().glob("mlflow.db-*"):
        path.unlink()
    shutil.copyfile("new.db", "mlflow.db")
    for folder in ("mlartifacts", ".cache/runs"):
        shutil.rmtree(folder, ignore_errors=True)
    TRAINED.unlink(missing_ok=True)


def record_all() -> bool:
    """What `dvc repro` does: it trains if it has no model, and evaluates."""
    if not TRAINED.exists():
        record_training()
        TRAINED.touch()
    return record_evaluation()


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
def whole(project: Path) -> dict[str, Any]:
    """What is recorded if nothing interrupts it."""
    assert record_all()
    (run,) = recorded_runs()
    assert lacking(run) == []
    whole = contents()
    assert (whole["status"], whole["is ready"], whole["is linked"]) == ("FINISHED", True, True)
    assert len(whole["metrics"]) == 2 * len(CURVES) + len(BEST_FIGURES) + len(METRICS)
    headlines = [name for name in whole["model"] if name[0].startswith("test/")]
    assert len(headlines) == 2
    assert len(whole["model"]) == len(CURVES) + len(headlines)
    return whole


@contextmanager
def before_writes(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` before all writes of the block."""
    with pytest.MonkeyPatch.context() as patch:

        def execute(connection: Any, _: object, statement: str, *__: object) -> None:
            if statement.startswith(("INSERT", "UPDATE", "DELETE")):
                connection.info["has written"] = True

        def commit(connection: Any) -> None:
            if connection.info.pop("has written", False):
                act()

        event.listen(engine(), "before_cursor_execute", execute)
        event.listen(engine(), "commit", commit)
        for name in ("log_artifact", "log_artifacts"):
            original = getattr(LocalArtifactRepository, name)

            def passing(*arguments: Any, original: Any = original) -> None:
                act()
                original(*arguments)

            patch.setattr(LocalArtifactRepository, name, passing)
        yield
        event.remove(engine(), "before_cursor_execute", execute)
        event.remove(engine(), "commit", commit)


def record_in_child(moments: Path) -> None:
    """Record all in a process that ends, and copy the files before each write to `moments`/N."""
    numbers = itertools.count()

    def copy() -> None:
        moment = moments / f"{next(numbers)}"
        (moment / ".cache").mkdir(parents=True)
        copy_record(Path(), moment)

    child = os.fork()
    if child == 0:
        try:
            with before_writes(copy):
                assert record_all()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_record_that_is_killed_at_any_write_is_completed(
    whole: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    reset()
    moments = tmp_path_factory.mktemp("moments")
    record_in_child(moments)
    count = len(list(moments.iterdir()))
    assert count > 20
    for place in range(count):
        reset()
        copy_record(moments / f"{place}", Path())
        for run in recorded_runs():
            assert lacking(run), place  # `pipeline runs` tells
        assert record_all(), place
        assert contents() == whole, place


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
        assert is_whole or record_evaluation(), (place, call)
        assert contents() == whole, (place, call)
    assert 20 < place < MAX_PLACES - 1
