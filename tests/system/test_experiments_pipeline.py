"""DVC and MLflow brought together, with real ones, in a repository of their own."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.builders.stores import copy_store
from tests.project import STAGES, Project, ran

EPOCHS = 500  # some seconds
NOWHERE = "http://127.0.0.1:9"  # the discard port


pytestmark = pytest.mark.xdist_group("experiments")


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
    """What must come back of a run."""
    curves = {
        name: [
            (each.step, each.value)
            for each in MlflowClient().get_metric_history(run.info.run_id, f"curves/{name}")
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


def test_all_runs_come_back_from_what_dvc_holds(project: Project) -> None:
    again = project.experiment("two", "train.lr=0.003")
    project.restore()
    assert ran(again) == []  # from DVC's run cache, so it made no run
    assert "two" in project.pipeline("runs", "--missing")
    # This process would go on reading the file that it has open: so it reads a copy.
    shutil.copy(project.folder / "mlflow.db", project.folder / "before.db")
    before = {run.info.run_name: facts(run) for run in project.runs("before.db")}
    assert len(before) == 3  # with the one above experiments in temporary folders
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


def test_ones_own_photographs_without_a_server_are_a_run_later(
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
    result = project.run(sys.executable, "-m", "pipeline", "sync", **away)
    assert result.returncode == 1
    assert result.stdout.startswith(f"error: MLflow at {NOWHERE} fails (")


def test_a_server_that_is_killed_in_the_middle_costs_nothing(
    project: Project, tmp_path: Path, empty_store: Path
) -> None:
    copy_store(empty_store, tmp_path)
    (tmp_path / "mlflow.db").rename(tmp_path / "server.db")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    place = {"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    with served(tmp_path, port) as client:
        options = ["-n", "cut", "-S", f"train.epochs={EPOCHS}"]
        command = [sys.executable, "-m", "dvc", "exp", "run", *options]
        working = subprocess.Popen(
            command,
            cwd=project.folder,
            env=project.environment | place,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        while not (begun := curves(client)):
            assert working.poll() is None, working.communicate()
            time.sleep(0.05)
    said, _ = working.communicate()
    assert working.returncode == 0, said
    assert begun < EPOCHS, "it was not killed while it trained"
    assert f"warning: MLflow at {address} fails" in said
    project.restore()
    with served(tmp_path, port) as client:
        assert "cut: completed" in project.pipeline("sync", **place)
        assert curves(client) == EPOCHS
        (run,) = named(client, "cut")
        assert run.info.status == "FINISHED"
        assert run.data.tags["result.test"]
        history = client.get_metric_history(run.info.run_id, "curves/train_loss")
        assert [each.step for each in history] == list(range(1, EPOCHS + 1))
        files = {each.path for each in client.list_artifacts(run.info.run_id, "test")}
        assert "test/predictions.csv" in files


@contextmanager
def served(folder: Path, port: int) -> Iterator[MlflowClient]:
    """MLflow's own server, which is killed in the end."""
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
            while not answers(port):
                assert server.poll() is None
                assert time.monotonic() < deadline, "the server does not start"
                time.sleep(0.1)
            yield MlflowClient(f"http://127.0.0.1:{port}")
        finally:
            os.killpg(server.pid, signal.SIGKILL)


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
    except OSError:
        return False
    return True


def named(client: MlflowClient, name: str) -> list[Run]:
    places = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(places, f"attributes.run_name = '{name}'")
    return list(found)


def curves(client: MlflowClient) -> int:
    """Epochs that the run has a loss of."""
    found = [
        client.get_metric_history(run.info.run_id, "curves/val_loss")
        for run in named(client, "cut")
    ]
    return sum(map(len, found))


def test_a_killed_experiment_is_closed_and_then_goes_on_in_its_run(project: Project) -> None:
    command = [sys.executable, "-m", "dvc", "exp", "run", "-n", "killed", "-S", "train.epochs=200"]
    working = subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    states, deadline = project.folder / ".cache/train", time.monotonic() + 120
    while not list(states.glob("*/state.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(working.pid, signal.SIGKILL)
    working.wait()
    _end_of("pipeline.stages.train", project.folder)
    assert list(states.glob("*/state.safetensors")), "it was not killed while it trained"
    said = project.pipeline("runs")
    assert re.search(r"^killed .* killed .* model", said, re.MULTILINE), said
    project.restore()
    project.experiment("killed", "train.epochs=200")
    project.restore()
    (run,) = [run for run in project.runs() if run.info.run_name == "killed"]
    assert run.info.status == "FINISHED"
    losses = MlflowClient().get_metric_history(run.info.run_id, "curves/val_loss")
    assert [each.step for each in losses] == list(range(1, 201))


def _end_of(module: str, folder: Path) -> None:
    """Kill what a stage of this project left behind: DVC starts stages in groups of their own."""
    import psutil

    for process in psutil.process_iter(["cmdline", "cwd"]):
        if process.info["cwd"] == str(folder) and module in (process.info["cmdline"] or []):
            process.kill()
            process.wait()


def test_a_run_of_two_commits_ago_is_made_again_in_a_clean_clone(
    project: Project, tmp_path: Path
) -> None:
    storage, clone = tmp_path / "storage", tmp_path / "clone"
    project.dvc("remote", "add", "-d", "storage", str(storage))
    run = min(project.runs(), key=lambda run: run.info.start_time)
    for number in (1, 2):
        (project.folder / "notes.txt").write_text(f"{number}\n")
        project.git("add", "-A")
        project.git("commit", "-q", "-m", f"later {number}")
    done = project.dvc("push")
    assert done.returncode == 0, done.stdout
    other = Project.cloned(project, clone)
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{project.folder / 'mlflow.db'}"}
    said = other.pipeline("reproduce", run.info.run_id[:10], **store)
    assert "nothing was computed" in said
    assert "identical: all " in said
    said = other.pipeline("reproduce", run.info.run_id, "--again", "train", **store)
    assert re.search(r"^train +computed", said, re.MULTILINE), said
    assert re.search(r"^features +restored", said, re.MULTILINE), said
    assert "identical: all " in said
    assert not list((clone / ".cache/reproduce").iterdir())
    told = MlflowClient().get_run(run.info.run_id).data.tags["reproduced"]
    assert "computed train, evaluate: identical: all " in told
    done = other.run(sys.executable, "-m", "pipeline", "reproduce", "0000", **store)
    assert done.returncode == 1
    assert done.stdout.startswith("error: no run of a training is 0000 at sqlite:///")
