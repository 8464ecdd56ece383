"""The recorder's process records what the same calls record in this one."""

from pathlib import Path

import psutil
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.core.history import Record
from pipeline.images import worker
from pipeline.params import Params
from pipeline.tracking import find_run, recorder, store
from pipeline.tracking.recorder import Recorder, TrainingRecord, _Session

VALIDATION = Record(1, 1.0, 0.1, 2.0, 0.5, val_loss=1.0, val_accuracy=0.5)
SPLIT_CSV = Path("data/split.csv")


@pytest.fixture(autouse=True)
def split_csv(mlflow_db: None) -> None:
    SPLIT_CSV.parent.mkdir(exist_ok=True)
    SPLIT_CSV.write_text("id,label,split,group\n")


def log(record: TrainingRecord) -> None:
    record.log_validation(VALIDATION)
    record.log_checkpoint(torch.nn.Linear(1, 1), "epoch_0001")
    assert record.is_recorded()


def newest_run() -> Run:
    store.connect()
    return store.search_runs("")[0]


def new_processes(before: set[psutil.Process]) -> list[psutil.Process]:
    """The recorders among the children of this process."""
    new = set(psutil.Process().children()) - before
    return [child for child in new if "popen_loky" in " ".join(child.cmdline())]


def facts(run: Run) -> tuple[object, ...]:
    """What does not depend on the process or the time."""
    names = {name for name in run.data.metrics if not name.startswith("system")}
    artifacts = MlflowClient().list_artifacts
    files = [
        file.path for name in ("checkpoint", "origin") for file in artifacts(run.info.run_id, name)
    ]
    return run.info.status, {name: run.data.metrics[name] for name in names}, run.data.params, files


def test_a_process_records_what_this_one_would(params: Params) -> None:
    runs = []
    for is_apart in (True, False):
        digest = str(is_apart)
        with (
            Recorder(is_apart) as process,
            process.training(params, digest, SPLIT_CSV, "") as record,
        ):
            log(record)
        runs.append(facts(newest_run()))
    assert runs[0] == runs[1]
    assert runs[0][0] == "FINISHED"
    assert "checkpoint/epoch_0001.safetensors" in runs[0][3]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")]
)
def test_the_status_is_that_of_the_training(
    error: type[BaseException], status: str, params: Params
) -> None:
    with (
        pytest.raises(error),
        Recorder(is_apart=False) as process,
        process.training(params, "f" * 20, SPLIT_CSV, ""),
    ):
        raise error
    assert newest_run().info.status == status


def test_a_killed_process_costs_the_record_alone(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(psutil.Process().children())
    with (
        Recorder(is_apart=True) as process,
        process.training(params, "f" * 20, SPLIT_CSV, "") as record,
    ):
        log(record)
        for child in new_processes(before):
            child.kill()
        record.log_validation(VALIDATION)
        assert not record.is_recorded()
    assert capsys.readouterr().err.count("pipeline sync") == 1
    assert newest_run().info.status == "RUNNING"  # the next start closes it


def test_an_error_of_the_process_costs_the_record_alone(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    SPLIT_CSV.unlink()
    with (
        Recorder(is_apart=True) as process,
        process.training(params, "f" * 20, SPLIT_CSV, "") as record,
    ):
        record.log_validation(VALIDATION)
        assert not record.is_recorded()
    assert capsys.readouterr().err.count("pipeline sync") == 1


def test_a_process_that_hangs_does_not_hold_up_the_end(
    params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recorder, "MAX_CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(worker, "EXIT_CODE_SECONDS", 0.1)
    before = set(psutil.Process().children())
    suspended = []

    def stop(record: TrainingRecord) -> None:
        assert record.is_recorded()
        for child in new_processes(before):
            child.suspend()
            suspended.append(child)
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        Recorder(is_apart=True) as process,
        process.training(params, "f" * 20, SPLIT_CSV, "") as record,
    ):
        stop(record)
    assert suspended
    assert not any(child.is_running() for child in suspended)
    assert not capsys.readouterr().err


def test_a_store_that_cannot_be_reached_is_tried_once(
    params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts: list[str] = []

    def refuse() -> None:
        attempts.append("opened")
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(store, "open_store", refuse)
    monkeypatch.setattr(find_run, "close_abandoned", lambda: attempts.append("used"))
    session = _Session()
    session.connect()
    session.open_training(params, "f" * 20, SPLIT_CSV, "")
    assert not session.is_recorded()
    assert attempts == ["opened"]
    assert "Connection refused" in capsys.readouterr().err
    monkeypatch.setattr(recorder, "CONNECTION_SECONDS", 0)  # later it is tried again
    session.open_training(params, "f" * 20, SPLIT_CSV, "")
    assert "used" in attempts


def test_nothing_is_recorded_of_another_device(params: Params) -> None:
    with (
        Recorder(is_apart=False) as process,
        process.training(params, "f" * 20, SPLIT_CSV, "", is_recorded=False) as record,
    ):
        record.log_validation(VALIDATION)
    store.connect()
    assert not store.search_runs("")
