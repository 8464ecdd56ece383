"""DVC experiments and MLflow runs together, with the real programs, in a separate repository."""

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.builders.stores import copy_store
from tests.project import STAGES, Project, ran

EPOCHS = 500  # some seconds
NOWHERE = "http://127.0.0.1:9"  # the discard port


@pytest.fixture(scope="module")
def project(first_experiment: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run once; it has an experiment with another learning rate."""
    return first_experiment.copied(tmp_path_factory.mktemp("experiments") / "project")


def artifacts(run: Run, folder: str | None = None) -> set[str]:
    paths = set()
    for file in MlflowClient().list_artifacts(run.info.run_id, folder):
        paths |= artifacts(run, file.path) if file.is_dir else {file.path}
    return paths


def facts(run: Run) -> dict[str, object]:
    """The parts of a run that `sync` must restore."""
    curves = {
        name: [
            (point.step, point.value)
            for point in MlflowClient().get_metric_history(run.info.run_id, f"curves/{name}")
        ]
        for name in ("train_loss", "val_loss", "val_accuracy", "lr")
    }
    metrics = {name: value for name, value in run.data.metrics.items() if "system" not in name}
    tags = {
        name: value
        for name, value in run.data.tags.items()
        if name.startswith(("data.", "result.", "model.", "dvc.", "git.changed"))
    }
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "params": run.data.params,
        "metrics": metrics,
        "curves": curves,
        "tags": tags,
        "artifacts": artifacts(run) - {"origin/changes.patch"},
    }


def test_sync_restores_all_runs_from_dvc(project: Project) -> None:
    again = project.experiment("two", "train.lr=0.003")
    project.restore()
    assert ran(again) == []  # restored from DVC's run cache, so there is no MLflow run
    assert "two" in project.pipeline("runs", "--missing")
    # Read a copy: this process would keep reading the deleted file that it has open.
    shutil.copy(project.folder / "mlflow.db", project.folder / "before.db")
    before = {run.info.run_name: facts(run) for run in project.runs("before.db")}
    assert len(before) == 3  # with the parent run of experiments in temporary folders
    (project.folder / "mlflow.db").unlink()
    output = project.pipeline("sync")
    assert "faster: created" in output
    assert "two: created" in output
    after = {run.info.run_name: facts(run) for run in project.runs()}
    assert set(after) == {"faster", "two", f"repro-{project.git('rev-parse', 'HEAD')[:7]}"}
    for name in ("faster", "two"):
        assert after[name] == before["faster"] | {"name": name, "tags": after[name]["tags"]}
    assert after["faster"]["tags"] == before["faster"]["tags"]
    assert project.pipeline("sync").endswith("sync: nothing to do\n")
    assert project.pipeline("runs", "--missing") == "nothing is missing\n"


def test_a_run_on_own_photographs_without_a_server_is_uploaded_later(
    project: Project, tmp_path: Path
) -> None:
    """A folder of images is a data set; its run is uploaded when there is a server again."""
    photos = tmp_path / "my photos"
    project.pipeline("export", "--imagefolder", str(photos))
    away = {"MLFLOW_TRACKING_URI": NOWHERE, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    output = project.experiment(
        "away",
        "dataset.name=images",
        f"dataset.source={photos}",
        "model.weights=none",
        "model.backbone=cifar_cnn",
        **away,
    )
    assert f"warning: MLflow at {NOWHERE} fails" in output
    assert ran(output) == list(STAGES)
    assert project.metrics()["n"] == len(list(photos.glob("test/*/*")))
    project.restore()
    assert "away: created" in project.pipeline("sync")
    (run,) = [run for run in project.runs() if run.info.run_name == "away"]
    assert run.data.tags["git.commit"] == project.git("rev-parse", "HEAD").strip()
    assert len(MlflowClient().get_metric_history(run.info.run_id, "curves/val_loss")) == 4
    assert "test/predictions.csv" in artifacts(run)
    result = project.python("-m", "pipeline", "sync", **away)
    assert result.returncode == 1
    assert result.stdout.startswith(f"error: MLflow at {NOWHERE} fails (")


def test_a_killed_server_loses_nothing_of_a_run(
    project: Project, tmp_path: Path, empty_store: Path
) -> None:
    copy_store(empty_store, tmp_path)
    (tmp_path / "mlflow.db").rename(tmp_path / "server.db")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    tracking = {"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    with served(tmp_path, port) as client:
        options = ["-n", "cut", "-S", f"train.epochs={EPOCHS}"]
        command = [sys.executable, "-m", "dvc", "exp", "run", *options]
        experiment = subprocess.Popen(
            command,
            cwd=project.folder,
            env=project.warm_environment | tracking,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        while not (epochs := curves(client)):
            assert experiment.poll() is None, experiment.communicate()
            time.sleep(0.05)
    output, _ = experiment.communicate()
    assert experiment.returncode == 0, output
    assert epochs < EPOCHS, "it was not killed while it trained"
    assert f"warning: MLflow at {address} fails" in output
    project.restore()
    with served(tmp_path, port) as client:
        assert "cut: completed" in project.pipeline("sync", **tracking)
        assert curves(client) == EPOCHS
        (run,) = find_runs(client, "cut")
        assert run.info.status == "FINISHED"
        assert run.data.tags["result.test"]
        history = client.get_metric_history(run.info.run_id, "curves/train_loss")
        assert [point.step for point in history] == list(range(1, EPOCHS + 1))
        files = {point.path for point in client.list_artifacts(run.info.run_id, "test")}
        assert "test/predictions.csv" in files


@contextmanager
def served(folder: Path, port: int) -> Iterator[MlflowClient]:
    """Run MLflow's server, and kill it at the end."""
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            deadline = time.monotonic() + 120
            while not is_ready(port):
                assert server.poll() is None
                assert time.monotonic() < deadline, "the server does not start"
                time.sleep(0.1)
            yield MlflowClient(f"http://127.0.0.1:{port}")
        finally:
            os.killpg(server.pid, signal.SIGKILL)


def is_ready(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
    except OSError:
        return False
    return True


def find_runs(client: MlflowClient, name: str) -> list[Run]:
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"attributes.run_name = '{name}'")
    return list(runs)


def curves(client: MlflowClient) -> int:
    """The number of epochs with a logged loss."""
    histories = [
        client.get_metric_history(run.info.run_id, "curves/val_loss")
        for run in find_runs(client, "cut")
    ]
    return sum(map(len, histories))


def test_a_killed_experiment_resumes_in_its_run(project: Project, tmp_path: Path) -> None:
    count = EPOCHS + 1  # the run cache has a training of EPOCHS
    epochs = f"train.epochs={count}"
    command = [sys.executable, "-m", "dvc", "exp", "run", "-n", "killed", "-S", epochs]
    with (tmp_path / "output").open("w") as output:
        experiment = subprocess.Popen(
            command,
            cwd=project.folder,
            env=project.warm_environment,
            start_new_session=True,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    states, deadline = project.folder / ".cache/train", time.monotonic() + 120
    while time.monotonic() < deadline:
        if list(states.glob("*/state.safetensors")) and _has_run(project, "killed"):
            break
        time.sleep(0.02)
    os.killpg(experiment.pid, signal.SIGKILL)
    experiment.wait()
    _kill_stage("pipeline.stages.train", project.folder)
    assert list(states.glob("*/state.safetensors")), (tmp_path / "output").read_text()
    printed = project.pipeline("runs")
    assert re.search(r"^killed .* killed .* model", printed, re.MULTILINE), printed
    project.restore()
    project.experiment("killed", epochs)
    project.restore()
    (run,) = [run for run in project.runs() if run.info.run_name == "killed"]
    assert run.info.status == "FINISHED"
    losses = MlflowClient().get_metric_history(run.info.run_id, "curves/val_loss")
    assert [point.step for point in losses] == list(range(1, count + 1))


def _has_run(project: Project, name: str) -> bool:
    """Whether the process that records has opened a run of this name; in a millisecond."""
    with closing(sqlite3.connect(project.folder / "mlflow.db")) as database:
        query = "SELECT count(*) FROM runs WHERE name = ?"
        return bool(database.execute(query, [name]).fetchone()[0])


def _kill_stage(module: str, folder: Path) -> None:
    """Kill the process of a stage: DVC starts stages in their own process groups."""
    import psutil

    for process in psutil.process_iter(["cmdline", "cwd"]):
        if process.info["cwd"] == str(folder) and module in (process.info["cmdline"] or []):
            process.kill()
            process.wait()


def test_a_run_of_two_commits_ago_is_reproduced_in_a_clean_clone(
    project: Project, tmp_path: Path
) -> None:
    storage, clone = tmp_path / "storage", tmp_path / "clone"
    project.dvc("remote", "add", "-d", "storage", str(storage))
    run = min(project.runs(), key=lambda run: run.info.start_time)
    for number in (1, 2):
        (project.folder / "notes.txt").write_text(f"{number}\n")
        project.git("add", "-A")
        project.git("commit", "-q", "-m", f"later {number}")
    process = project.dvc("push")
    assert process.returncode == 0, process.stdout
    other = Project.cloned(project, clone)
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{project.folder / 'mlflow.db'}"}
    printed = other.pipeline("reproduce", run.info.run_id[:10], **store)
    assert "nothing was computed" in printed
    assert "identical: all " in printed
    printed = other.pipeline("reproduce", run.info.run_id, "--again", "train", **store)
    assert re.search(r"^train +computed", printed, re.MULTILINE), printed
    assert re.search(r"^features +restored", printed, re.MULTILINE), printed
    assert "identical: all " in printed
    assert not list((clone / ".cache/reproduce").iterdir())
    tag = MlflowClient().get_run(run.info.run_id).data.tags["reproduced"]
    assert "computed train, evaluate: identical: all " in tag
    process = other.python("-m", "pipeline", "reproduce", "0000", **store)
    assert process.returncode == 1
    assert process.stdout.startswith("error: no training run is called 0000 at sqlite:///")
