"""A run made by the code of an old commit: recorded in an archive, unpacked for tests.

`python -m tests.builders.old_run` records it again. It clones this repository at that commit,
trains a small network there as a DVC experiment, and archives what MLflow has of it: the model
folder, the provenance, params, metrics and tags. Names of the machine and its user are left out.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mlflow import MlflowClient

from tests import ROOT

COMMIT = "4f3433c7c40af9bf198822797b3e5aa816e5b659"
NAME = "before-the-move"
ARCHIVE = ROOT / "tests/system/fixtures/old_run.tar.xz"
OVERRIDES = (
    "model.backbone=cifar_cnn",
    "model.weights=none",
    "model.trainable=all",
    "images.size=16",
    "images.resize=16",
    "images.normalise=half",
    "filter.store_side=32",
    "features.views=0",
    "train.epochs=2",
    "train.log_checkpoints=none",
    "evaluate.samples=1",
)
TAGS = ("git.", "dvc.", "data.", "model.", "result.", "env.python", "env.torch")
PREDICT = """
import json, sys
import mlflow, pandas
model, image = sys.argv[1:]
with open(image, "rb") as file:
    table = pandas.DataFrame({"image": [file.read()]})
(row,) = mlflow.pyfunc.load_model(model).predict(table).to_dict("records")
print(json.dumps(row))
"""


@dataclass(frozen=True)
class OldRun:
    """The unpacked archive."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def image(self) -> Path:
        return self.folder / "image.png"

    @property
    def facts(self) -> dict[str, Any]:
        """Its params, metrics and tags, and the prediction for `image`."""
        facts: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
        return facts

    def log(self, folder: Path) -> str:
        """Create the run in `folder`/mlflow.db; return its id."""
        client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        facts = self.facts
        dataset = facts["params"]["dataset.name"]
        artifacts = (folder / "mlartifacts" / dataset).as_uri()
        experiment = client.create_experiment(dataset, artifacts)
        run_id = str(client.create_run(experiment, tags=facts["tags"], run_name=NAME).info.run_id)
        for name, value in facts["params"].items():
            client.log_param(run_id, name, value)
        for name, value in facts["metrics"].items():
            client.log_metric(run_id, name, value)
        client.log_artifacts(run_id, str(self.folder / "origin"), "origin")
        client.set_terminated(run_id)
        return run_id


def unpack(folder: Path) -> OldRun:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return OldRun(folder)


def predict(run: OldRun) -> dict[str, Any]:
    """Load the model with MLflow in a process that has not imported this package."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", PREDICT, str(run.model), str(run.image)]
    output = subprocess.check_output(command, cwd=run.folder, env=environment, text=True)
    row: dict[str, Any] = json.loads(output.splitlines()[-1])
    return row


def record() -> None:
    """Replace the archive."""
    with tempfile.TemporaryDirectory() as temporary:
        project, old_run = Path(temporary, "project"), OldRun(Path(temporary, "old-run"))
        _train(project)
        _collect(project, old_run)
        _pack(old_run.folder)
    print(f"{ARCHIVE.relative_to(ROOT)}: {ARCHIVE.stat().st_size} bytes")


def _train(project: Path) -> None:
    clone = ["git", "clone", "--quiet", str(ROOT), str(project)]
    subprocess.run(clone, check=True)
    subprocess.run(["git", "checkout", "--quiet", "--detach", COMMIT], cwd=project, check=True)
    prefixes = ("DVC_", "MLFLOW_", "GIT_", "PYTHONPATH")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(prefixes)
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    options = [word for value in OVERRIDES for word in ("-S", value)]
    command = [sys.executable, "-m", "dvc", "exp", "run", "--name", NAME, *options]
    subprocess.run(command, cwd=project, env=environment | {"PATH": path}, check=True)


def _collect(project: Path, old_run: OldRun) -> None:
    """Copy the model folder and the provenance; write the facts and a drawn image."""
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    assert run.data.tags["git.changed"] == "no"
    old_run.folder.mkdir()
    (model,) = project.glob("mlartifacts/*/models/*/artifacts")
    shutil.copytree(model, old_run.model, ignore=shutil.ignore_patterns("__pycache__"))
    card = old_run.model / "MLmodel"  # its artifact_path is in the temporary folder
    card.write_text(card.read_text().replace(project.as_uri(), "file:///project"))
    (origin,) = project.glob(f"mlartifacts/*/{run.info.run_id}/artifacts/origin")
    shutil.copytree(origin, old_run.folder / "origin")
    pixels = np.linspace(0, 255, 48 * 64 * 3).astype(np.uint8).reshape(48, 64, 3)
    cv2.imwrite(str(old_run.image), pixels)
    facts = {
        "params": run.data.params,
        "metrics": {
            name: value
            for name, value in run.data.metrics.items()
            if not name.startswith("system/")
        },
        "tags": {name: value for name, value in run.data.tags.items() if name.startswith(TAGS)},
        "prediction": predict(old_run),
    }
    (old_run.folder / "run.json").write_text(json.dumps(facts, indent=1, sort_keys=True))


def _pack(folder: Path) -> None:
    """Archive `folder` without times and owners, in a fixed order."""
    ARCHIVE.parent.mkdir(exist_ok=True)
    with tarfile.open(ARCHIVE, "w:xz", preset=9, format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                info = tarfile.TarInfo(path.relative_to(folder).as_posix())
                info.size, info.mode = path.stat().st_size, 0o644
                with path.open("rb") as file:
                    archive.addfile(info, file)


if __name__ == "__main__":
    record()
