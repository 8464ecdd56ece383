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

from tests.project import Project, ran

EPOCHS = 1000  # some seconds
NOWHERE = "http://127.0.0.1:9"  # the discard port


@pytest.fixture(scope="module")
def project(first_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run once, and whose result is committed."""
    return first_run.copied(tmp_path_factory.mktemp("experiments") / "project")


def pipeline(project: Project, *arguments: str, **changed: str) -> str:
    done = project.run(sys.executable, "-m", "pipeline", *arguments, **changed)
    assert done.returncode == 0, done.stdout
    return done.stdout


def experiment(project: Project, name: str, override: str, **changed: str) -> str:
    done = project.dvc("exp", "run", "-n", name, "-S", override, **changed)
    assert done.returncode == 0, done.stdout
    project.restore()
    project.dvc("checkout")
    return done.stdout


def artifacts(run: Run, folder: str | None = None) -> set[str]:
    found = set()
    for file in MlflowClient().list_artifacts(run.info.run_id, folder):
        found |= artifacts(run, file.path) if file.is_dir else {file.path}
    return found


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
    experiment(project, "one", "train.lr=0.003")
    again = experiment(project, "two", "train.lr=0.003")
    assert ran(again) == []  # from DVC's run cache, so it made no run
    assert "two" in pipeline(project, "runs", "--missing")
    # This process would go on reading the file that it has open: so it looks at a copy.
    shutil.copy(project.folder / "mlflow.db", project.folder / "before.db")
    before = {run.info.run_name: facts(run) for run in project.runs("before.db")}
    assert len(before) == 2
    (project.folder / "mlflow.db").unlink()
    said = pipeline(project, "sync")
    assert "one: created" in said
    assert "two: created" in said
    after = {run.info.run_name: facts(run) for run in project.runs()}
    assert set(after) == {"one", "two", f"repro-{project.git('rev-parse', 'HEAD')[:7]}"}
    for each in (after["one"], after["two"]):
        assert each == before["one"] | {"name": each["name"], "tags": each["tags"]}
    assert after["one"]["tags"] == before["one"]["tags"]
    assert pipeline(project, "sync").endswith("sync: nothing to do\n")
    assert pipeline(project, "runs", "--missing") == "nothing is missing\n"


def test_a_run_made_while_the_server_was_away_is_uploaded_later(project: Project) -> None:
    said = experiment(
        project,
        "away",
        "train.lr=0.002",
        MLFLOW_TRACKING_URI=NOWHERE,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
    )
    assert f"warning: MLflow at {NOWHERE} fails" in said
    assert ran(said) == ["train", "evaluate"]
    assert "away: created" in pipeline(project, "sync")
    (run,) = [run for run in project.runs() if run.info.run_name == "away"]
    assert run.data.tags["git.commit"] == project.git("rev-parse", "HEAD").strip()
    assert len(MlflowClient().get_metric_history(run.info.run_id, "curves/val_loss")) == 4
    assert "test/predictions.csv" in artifacts(run)
    done = project.run(
        sys.executable,
        "-m",
        "pipeline",
        "sync",
        MLFLOW_TRACKING_URI=NOWHERE,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
    )
    assert done.returncode == 1
    assert done.stdout.startswith(f"error: MLflow at {NOWHERE} fails (")


def test_a_server_that_is_killed_in_the_middle_costs_nothing(
    project: Project, tmp_path: Path
) -> None:
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
    project.dvc("checkout")
    with served(tmp_path, port) as client:
        assert "cut: completed" in pipeline(project, "sync", **place)
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
    said = pipeline(project, "runs")
    assert re.search(r"^killed .* killed .* model", said, re.MULTILINE), said
    project.restore()
    experiment(project, "killed", "train.epochs=200")
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
    said = pipeline(other, "reproduce", run.info.run_id[:10], **store)
    assert "nothing was computed" in said
    assert "identical: all " in said
    said = pipeline(other, "reproduce", run.info.run_id, "--again", "train", **store)
    assert re.search(r"^train +computed", said, re.MULTILINE), said
    assert re.search(r"^features +restored", said, re.MULTILINE), said
    assert "identical: all " in said
    assert not list((clone / ".cache/reproduce").iterdir())
    told = MlflowClient().get_run(run.info.run_id).data.tags["reproduced"]
    assert "computed train, evaluate: identical: all " in told
    done = other.run(sys.executable, "-m", "pipeline", "reproduce", "0000", **store)
    assert done.returncode == 1
    assert done.stdout.startswith("error: no training is 0000 at sqlite:///")
