"""Several machines with one store: PostgreSQL, directly and behind MLflow's server, and S3.

Each machine is a project folder of its own, whose processes are forks of this one. They share
nothing but the servers: neither .cache with its locks, nor a folder for artifacts.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from pipeline.commands.doctor import servers
from pipeline.tracking import find_run, heartbeat, logged_model, provenance, store
from pipeline.tracking.process_lock import PROCESS
from pipeline.tracking.run import Run as OpenRun
from tests import ROOT
from tests.builders import warm_python
from tests.builders.forks import Fork
from tests.builders.mlflow_server import DESTINATION, serve_mlflow
from tests.builders.postgres import Postgres, serve_postgres
from tests.builders.s3 import serve_s3, use_s3
from tests.builders.small_records import (
    VALUES,
    lacking,
    make_records_small,
    record_evaluation,
    record_training,
    recorded_runs,
    write_results,
)
from tests.builders.training_runs import save_small_model

OTHER_VALUES, OTHER_FINGERPRINT = {**VALUES, provenance.DATASET: "other"}, "e" * 20
LONG_AGO = "2020-01-01T00:00:00+00:00"
MAX_SECONDS = 200  # on a busy machine
MODEL_FILES = {"MLmodel", "code/pipeline/__init__.py", "code/pipeline/network/__init__.py"}
ARTIFACTS = {"checkpoint", "origin", "report.html", "test", "train"}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with serve_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with serve_s3() as address:
        yield address


@pytest.fixture(scope="module")
def template(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database with MLflow's tables, which two machines created together."""
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": postgres.create_database("opened"),
        "PYTHONPATH": str(ROOT),
    }
    code = "from pipeline.tracking import store; store.open_store()"
    machines = [
        subprocess.Popen(
            [warm_python.executable(), "-c", code],
            env=environment | {"DVC_ROOT": str(tmp_path_factory.mktemp(name))},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("one", "other")
    ]
    assert [machine.communicate(timeout=MAX_SECONDS)[0] for machine in machines] == ["", ""]
    assert [machine.returncode for machine in machines] == [0, 0]
    return "opened"


@pytest.fixture(scope="module")
def server(
    postgres: Postgres, template: str, s3: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of an MLflow server with a database and S3 behind it."""
    database = postgres.create_database("served", template)
    with pytest.MonkeyPatch.context() as patch:
        use_s3(patch, s3)
        patch.setenv("NO_PROXY", "*")
        patch.setenv("no_proxy", "*")
        with serve_mlflow(database, tmp_path_factory.mktemp("server")) as address:
            yield address


@pytest.fixture(params=["database", "server"])
def address(
    request: pytest.FixtureRequest,
    postgres: Postgres,
    template: str,
    s3: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """The address of a new database, or of MLflow's server, which all tests share."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    if request.param == "server":
        yield request.getfixturevalue("server")  # which alone has the credentials of S3
        return
    name = f"store_{time.monotonic_ns()}"
    use_s3(monkeypatch, s3)
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", DESTINATION)
    yield postgres.create_database(name, template)
    _close(name)


def _close(name: str) -> None:
    """Close the connections of this process to a database."""
    for uri, engine in SqlAlchemyStore._engine_map.items():
        if f"/{name}?" in uri:
            engine.dispose()


def _wait(is_ready: Callable[[], object]) -> None:
    deadline = time.monotonic() + MAX_SECONDS
    while not is_ready():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> Callable[[str], Path]:
    """A function that makes a project, with the results of a training, and enters it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    make_records_small(monkeypatch)
    monkeypatch.setattr(logged_model, "save_model", _save_model_with_code)

    def create(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DVC_ROOT", str(folder))
        write_results()
        return folder

    return create


def _save_model_with_code(folder: Path, models: Path, model: LoggedModel) -> None:
    save_small_model(folder, models, model)
    for name in ("__init__.py", "network/__init__.py"):
        (folder / "code/pipeline" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "code/pipeline" / name).write_text(name)


def _files_of_model(client: MlflowClient, model_id: str, folder: str = "") -> set[str]:
    entries = client.list_logged_model_artifacts(model_id, folder or None)
    folders = [entry.path for entry in entries if entry.is_dir]
    below = [_files_of_model(client, model_id, path) for path in folders]
    return {entry.path for entry in entries if not entry.is_dir}.union(*below)


def _enter(folder: Path) -> None:
    os.chdir(folder)
    os.environ["DVC_ROOT"] = str(folder)


def test_two_clones_that_train_at_the_same_time_leave_two_whole_runs(
    machine: Callable[[str], Path],
) -> None:
    folders = [machine("laptop"), machine("desktop")]
    ready = get_context("fork").Barrier(2)

    def train_and_evaluate(folder: Path) -> None:
        _enter(folder)
        store.open_store()
        ready.wait()
        record_training()
        ready.wait()
        assert record_evaluation()

    forks = [Fork(partial(train_and_evaluate, folder), [], folder / "out") for folder in folders]
    assert [fork.finish() for fork in forks] == ["", ""]
    runs, client = recorded_runs(), MlflowClient()
    assert [run.info.status for run in runs] == ["FINISHED"] * 2
    assert [lacking(run) for run in runs] == [[], []]
    assert len({run.data.tags[provenance.CLONE] for run in runs}) == 2
    assert sorted(experiment.name for experiment in client.search_experiments()) == [
        "Default",
        "sample",
    ]
    for run in runs:
        paths = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert paths == ARTIFACTS
        assert run.outputs is not None
        (model,) = run.outputs.model_outputs
        assert _files_of_model(client, model.model_id) == MODEL_FILES
    assert not any((folder / "mlartifacts").exists() for folder in folders)


def _open_run(folder: Path) -> None:
    """Open the run of a training and work on it for ever."""
    _enter(folder)
    OpenRun().start(OTHER_VALUES, "open", {provenance.FINGERPRINT: OTHER_FINGERPRINT})
    time.sleep(MAX_SECONDS)


def _open_runs() -> list[Run]:
    return store.search_runs(f"tags.`{provenance.FINGERPRINT}` = '{OTHER_FINGERPRINT}'")


def _the_run() -> Run:
    (run,) = _open_runs()
    return run


def _backdate(run: Run) -> None:
    MlflowClient().set_tag(run.info.run_id, heartbeat.TAG, LONG_AGO)


def test_a_run_whose_process_died_on_another_machine_is_closed(
    machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.1)
    folder = machine("laptop")
    fork = Fork(partial(_open_run, folder), [], folder / "out")
    try:
        store.connect()
        _wait(_open_runs)
        machine("desktop")  # which has no lock of that process
        _backdate(_the_run())
        _wait(lambda: _the_run().data.tags[heartbeat.TAG] != LONG_AGO)
        find_run.close_abandoned()
        assert _the_run().info.status == "RUNNING"  # its process lives
    finally:
        fork.kill()
    find_run.close_abandoned()
    assert _the_run().info.status == "RUNNING"  # it has died too recently
    _backdate(_the_run())
    find_run.close_abandoned()
    assert _the_run().info.status == "KILLED"
    assert find_run.find_stopped(OTHER_VALUES, OTHER_FINGERPRINT) == _the_run().info.run_id


@pytest.mark.parametrize("address", ["database"], indirect=True)
def test_a_process_that_slept_takes_its_run_back_unless_another_has_it(
    machine: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.05)
    machine("laptop")
    run = OpenRun()
    run.start(OTHER_VALUES, "open", {provenance.FINGERPRINT: OTHER_FINGERPRINT})
    client, run_id = MlflowClient(), str(run.id)
    client.set_terminated(run_id, "KILLED")
    _wait(lambda: _the_run().info.status == "RUNNING")
    client.set_tag(run_id, PROCESS, "another")
    beat: Any = run._heartbeat
    _wait(lambda: beat.is_lost)
    run.log_metrics({"late": 1.0})
    run.end("FINISHED")
    assert "another process has taken over the run" in capsys.readouterr().err
    assert _the_run().info.status == "RUNNING"
    assert "late" not in _the_run().data.metrics


@pytest.mark.parametrize("address", ["database"], indirect=True)
def test_a_lock_of_the_database_holds_on_all_machines(machine: Callable[[str], Path]) -> None:
    machine("laptop")
    order = []

    def wait_for_lock() -> None:
        with store.exclusive():
            order.append("desktop")

    with store.exclusive():
        machine("desktop")
        thread = Thread(target=wait_for_lock)
        thread.start()
        thread.join(0.3)
        order.append("laptop")
    thread.join()
    assert order == ["laptop", "desktop"]


@pytest.mark.parametrize("address", ["database"], indirect=True)
def test_artifacts_never_go_to_the_local_disk_in_silence(
    machine: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine("laptop")
    store.connect()
    client = MlflowClient()
    client.create_experiment("proxied", "mlflow-artifacts:/7")
    client.create_experiment("elsewhere", "s3://bucket/before")
    client.create_experiment("other-machine", "file:///nowhere/mlartifacts")
    store.experiment_id("elsewhere")
    warning = capsys.readouterr().err
    assert "experiment elsewhere keeps its artifacts at s3://bucket/before" in warning
    for name, sentence in (
        ("proxied", "go through MLflow's server: set MLFLOW_TRACKING_URI to the server's address"),
        ("other-machine", "go to /nowhere/mlartifacts, which this machine does not have"),
    ):
        with pytest.raises(MlflowException, match=sentence):
            store.experiment_id(name)
    monkeypatch.delenv("MLFLOW_ARTIFACTS_DESTINATION")
    with pytest.raises(MlflowException, match="MLFLOW_ARTIFACTS_DESTINATION must say where"):
        store.experiment_id("new")


@pytest.mark.parametrize("address", ["database"], indirect=True)
def test_the_doctor_examines_the_database_and_its_artifacts(
    machine: Callable[[str], Path], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("laptop")

    def examine() -> str:
        return "".join(finding.line() for finding in servers.examine_mlflow("sample"))

    assert examine() == ""
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", "s3://no-such-bucket/mlflow")
    assert "artifacts of sample cannot be recorded in postgresql://127.0.0.1" in examine()
    monkeypatch.delenv("MLFLOW_ARTIFACTS_DESTINATION")
    assert "MLFLOW_ARTIFACTS_DESTINATION must say where" in examine()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("pass", "word"))
    assert "does not answer (connection failed: " in examine()
    assert "password authentication failed" in examine()
