"""The whole pipeline, with real DVC and real MLflow, in repositories of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.project import Project, ran


@pytest.fixture(scope="module")
def project(first_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run once, and whose result is committed."""
    return first_run.copied(tmp_path_factory.mktemp("pipeline") / "project")


def test_a_fresh_repro_ends_in_one_run_with_the_metrics_of_the_report(project: Project) -> None:
    run = min(project.runs(), key=lambda run: run.info.start_time)
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("repro-")
    assert run.data.metrics["test/accuracy"] == project.metrics()["accuracy"] > 0.8
    assert len(run.data.tags["data.clean"]) > 30


def test_nothing_runs_again(project: Project) -> None:
    assert ran(project.dvc("repro").stdout) == []


def test_from_nothing_and_killed_while_it_computes_features_it_ends_in_the_same_lock(
    project: Project, tmp_path: Path
) -> None:
    other = Project(tmp_path / "other")
    working = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=other.folder,
        env=other.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    memo = other.folder / ".cache/features"
    deadline = time.monotonic() + 120
    while not list(memo.rglob("*.arrow")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(working.pid, signal.SIGKILL)
    working.wait()
    assert list(memo.rglob("*.arrow")), "it was not killed while it computed features"
    assert not (other.folder / "data/features").exists()
    done = other.dvc("repro")
    assert done.returncode == 0, done.stdout
    assert (other.folder / "dvc.lock").read_bytes() == (project.folder / "dvc.lock").read_bytes()


def test_a_learning_rate_reuses_the_features_and_is_a_run_of_its_own(project: Project) -> None:
    done = project.dvc("exp", "run", "-n", "faster", "-S", "train.lr=0.003")
    assert ran(done.stdout) == ["train", "evaluate"], done.stdout
    (run,) = [run for run in project.runs() if run.info.run_name == "faster"]
    assert run.data.params["train.lr"] == "0.003"
    assert run.data.metrics["test/accuracy"] == project.metrics()["accuracy"]
    project.restore()
    project.dvc("checkout")


def test_temporary_and_queued_experiments_land_in_the_one_store(project: Project) -> None:
    done = project.dvc("exp", "run", "--temp", "-n", "aside", "-S", "train.seed=2")
    assert done.returncode == 0, done.stdout
    for number in (3, 4):
        project.dvc("exp", "run", "--queue", "-n", f"queued-{number}", "-S", f"train.seed={number}")
    done = project.dvc("exp", "run", "--run-all", "-j", "2")
    assert done.returncode == 0, done.stdout
    found = {run.info.run_name: run for run in project.runs()}
    (above,) = [run for run in project.runs() if run.info.run_name.startswith("queue-")]
    for name in ("aside", "queued-3", "queued-4"):
        assert found[name].info.status == "FINISHED"
        assert found[name].data.metrics.keys() >= {"curves/val_loss", "test/accuracy"}
        assert found[name].data.tags["mlflow.parentRunId"] == above.info.run_id
    runs = [run for run in project.runs() if run.info.run_name in ("aside", "queued-3", "queued-4")]
    assert len(runs) == 3

    # The same model by each of its names; and another, in the working tree.
    count = project.metrics()["n"]
    for one, other in (
        ("aside", found["aside"].info.run_id),
        ("HEAD", "reports/test"),
        ("queued-3", "models"),
    ):
        done = project.run(sys.executable, "-m", "pipeline", "compare", one, other)
        assert done.returncode == 0, done.stdout
        assert f" on {count} images " in " ".join(done.stdout.split())
        same = one != "queued-3"
        assert ("(95 %: +0.0 to +0.0; 0 gained, 0 lost" in " ".join(done.stdout.split())) >= same
    done = project.run(sys.executable, "-m", "pipeline", "compare", "nobody", "HEAD")
    assert done.returncode == 1
    assert done.stdout.startswith("error: no predictions of nobody (")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.lr=fast", "params.yaml: train.lr = 'fast', but should be a valid number"),
        ("+train.epoch=3", "train.epoch = 3 is not a known key (did you mean epochs?)"),
        ("model.backbone=resnet19", "model.backbone=resnet19 is no torchvision classifier"),
        ("dataset.name=absent", "datasets/absent"),
        ("dataset.source=absent.zip", "absent.zip"),
    ],
)
def test_bad_params_are_told_in_a_sentence(project: Project, override: str, sentence: str) -> None:
    done = project.dvc("exp", "run", "-S", override)
    assert done.returncode != 0
    assert sentence in done.stdout
    assert "Traceback" not in done.stdout
    project.restore()


def test_without_a_network_missing_weights_are_told_in_a_sentence(
    project: Project, tmp_path: Path
) -> None:
    blocked = {"https_proxy": "http://127.0.0.1:9", "TORCH_HOME": str(tmp_path)}
    done = project.dvc("exp", "run", "-S", "model.backbone=resnet18", **blocked)
    assert done.returncode != 0
    (sentence,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert "resnet18-f37072fd.pth" in sentence
    assert "Traceback" not in done.stdout
    project.restore()


def test_a_folder_of_ones_own_photographs_is_a_data_set(project: Project, tmp_path: Path) -> None:
    photos = tmp_path / "my photos"
    exported = project.run(sys.executable, "-m", "pipeline", "export", "--imagefolder", str(photos))
    assert exported.returncode == 0, exported.stdout
    done = project.dvc(
        "exp",
        "run",
        "-S",
        "dataset.name=images",
        "-S",
        f"dataset.source={photos}",
        "-S",
        "model.weights=none",
        "-S",
        "train.epochs=1",
    )
    assert done.returncode == 0, done.stdout
    assert project.metrics()["n"] == len(list(photos.glob("test/*/*")))
    project.restore()
    project.dvc("checkout")
