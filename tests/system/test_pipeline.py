"""The whole pipeline, with real DVC and MLflow, in separate repositories."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire import __main__ as acquire
from pipeline.stages.features import __main__ as features
from tests import ROOT
from tests.builders.stages import CLEAN, FEATURES, SPLIT
from tests.project import Project, ran


@pytest.fixture(scope="module")
def project(first_experiment: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run once; it has an experiment with another learning rate."""
    return first_experiment.copied(tmp_path_factory.mktemp("pipeline") / "project")


def test_a_fresh_repro_ends_in_one_run_with_the_metrics_of_the_report(project: Project) -> None:
    run = min(project.runs(), key=lambda run: run.info.start_time)
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("repro-")
    assert run.data.metrics["test/accuracy"] == project.metrics()["accuracy"] > 0.8
    assert len(run.data.tags["data.clean"]) > 30


def test_nothing_runs_again(project: Project) -> None:
    assert ran(project.dvc("repro").stdout) == []


def locked(project: Project, *stages: str) -> dict[str, Any]:
    lock = YAML(typ="safe").load(project.folder / "dvc.lock")
    return {stage: lock["stages"][stage] for stage in stages}


def test_a_run_killed_in_the_features_stage_resumes_to_the_same_lock(
    project: Project, new_project: Project, tmp_path: Path
) -> None:
    """That train and evaluate repeat is tested with `pipeline reproduce`."""
    other = new_project.copied(tmp_path / "other")
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=other.folder,
        env=other.warm_environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    memo = other.folder / ".cache/features"
    deadline = time.monotonic() + 120
    while not list(memo.rglob("*.arrow")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(memo.rglob("*.arrow")), "it was not killed while it computed features"
    assert not (other.folder / "data/features").exists()
    result = other.dvc("repro", "describe", "features")
    assert result.returncode == 0, result.stdout
    stages = ("acquire", "filter", "split", "describe", "features")
    assert locked(other, *stages) == locked(project, *stages)


def test_an_experiment_with_another_learning_rate_is_a_separate_run(project: Project) -> None:
    (run,) = [run for run in project.runs() if run.info.run_name == "faster"]
    assert run.info.status == "FINISHED"
    assert run.data.params["train.lr"] == "0.003"
    assert run.data.metrics.keys() >= {"curves/val_loss", "test/accuracy"}


def test_temporary_and_queued_experiments_are_recorded_in_the_one_store(project: Project) -> None:
    for number in (3, 4):
        project.dvc("exp", "run", "--queue", "-n", f"queued-{number}", "-S", f"train.seed={number}")
    result = project.dvc("exp", "run", "--run-all", "-j", "2")
    project.kill_queue_workers()
    assert result.returncode == 0, result.stdout
    (above,) = [run for run in project.runs() if run.info.run_name.startswith("queue-")]
    names = ["faster", "queued-3", "queued-4"]  # `faster` ran in a temporary folder
    runs = [run for run in project.runs() if run.info.run_name in names]
    assert sorted(run.info.run_name for run in runs) == names
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.metrics.keys() >= {"curves/val_loss", "test/accuracy"}
        assert run.data.tags["mlflow.parentRunId"] == above.info.run_id


# One process: each would import torch and MLflow again.
COMPARE = """
import sys
from pipeline.__main__ import app
for pair in sys.argv[1:]:
    app(["compare", *pair.split()], standalone_mode=False)
    print("---")
"""


def test_models_are_compared_by_each_of_their_names(project: Project) -> None:
    (run,) = [run for run in project.runs() if run.info.run_name == "faster"]
    pairs = (
        f"faster {run.info.run_id}",
        "HEAD reports/test",
        "faster models",  # another model than the experiment's
    )
    result = project.python("-c", COMPARE, *pairs)
    assert result.returncode == 0, result.stdout
    *outputs, end = " ".join(result.stdout.split()).split("---")
    assert end == ""
    for pair, output in zip(pairs, outputs, strict=True):
        assert f" on {project.metrics()['n']} images " in output
        same = pair != "faster models"
        assert (" images (0 gained, 0 lost, " in output) >= same
    result = project.python("-m", "pipeline", "compare", "nobody", "HEAD")
    assert result.returncode == 1
    assert result.stdout.startswith("error: no predictions of nobody (")


def test_dvc_prints_one_sentence_about_bad_params(project: Project) -> None:
    result = project.dvc("exp", "run", "-S", "train.lr=fast")
    assert result.returncode != 0
    sentence = "params.yaml: train.lr = 'fast', but should be a valid number"
    assert sentence in result.stdout, result.stdout
    assert "Traceback" not in result.stdout
    project.restore()


def write_params(**values: object) -> None:
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    for name, value in values.items():
        section, _, key = name.partition("__")
        params[section][key] = value
    Path("params.yaml").write_text(json.dumps(params))


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("train__epoch", 3, "train.epoch = 3 is not a known key (did you mean epochs?)"),
        ("model__backbone", "resnet19", "model.backbone=resnet19 is not a torchvision classifier"),
        ("model__backbone", "resnet18", "resnet18-f37072fd.pth"),  # which is not there
    ],
)
def test_the_features_stage_refuses_bad_params(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object, sentence: str
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(dataset.parent))
    write_params(**{name: value})
    with pytest.raises(PipelineError) as caught:
        features.main(CLEAN, SPLIT, FEATURES)
    assert sentence in str(caught.value)
    assert not FEATURES.exists()


@pytest.mark.parametrize(
    ("folder", "source"),
    [("datasets/absent", "datasets"), (ROOT / "datasets/images", "absent.zip")],
)
def test_acquire_refuses_missing_paths(world: Path, folder: Path | str, source: str) -> None:
    write_params()
    with pytest.raises(PipelineError, match=r"datasets/absent|absent\.zip"):
        acquire.main(Path(folder), source, Path("data/raw"), Path("data/skipped.csv"))
