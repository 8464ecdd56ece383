"""Git repositories with a dvc.lock of made-up results, and their MLflow runs."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus, Metric, Param

from pipeline.params import Params
from pipeline.tracking import provenance, store
from pipeline.tracking.missing_parts import CHECKPOINT, FILES, MARKS

CommitResult = Callable[..., str]
"""Commits a result (models, accuracy, params); returns the commit."""


def git(*words: str, folder: Path | None = None) -> str:
    """Run git in `folder` or the working directory, with a user name."""
    user = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    command = ["git", *user, *words]
    result = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return result.stdout.strip()


def commit_all(message: str, folder: Path | None = None) -> None:
    """Commit all files, after creating the repository if there is none."""
    git("init", "-q", "-b", "main", folder=folder)
    git("add", "-A", folder=folder)
    git("commit", "-q", "-m", message, folder=folder)


def result_lock(params: Params, models: str, evaluated: str | None = None) -> dict[str, Any]:
    """dvc.lock after a whole run; `evaluated` is the digest of the model that evaluate read."""

    def outs(**digests: str) -> list[dict[str, str]]:
        return [{"path": path, "hash": "md5", "md5": md5} for path, md5 in digests.items()]

    locked_params = {"params.yaml": params.model_dump()}
    return {
        "schema": "2.0",
        "stages": {
            "split": {"cmd": "x", "outs": outs(**{"data/split.csv": "5" * 32})},
            "train": {"cmd": "x", "params": locked_params, "outs": outs(models=models)},
            "evaluate": {
                "cmd": "x",
                "params": locked_params,
                "deps": outs(models=evaluated or models),
                "outs": outs(**{"reports/test": f"test-of-{models}"}),
            },
        },
    }


def start_repository(folder: Path, default: Params) -> CommitResult:
    """Create a repository; return a function that commits results to it."""
    git("init", "-q", "-b", "main")
    (folder / ".gitignore").write_text("mlflow.db\nmlartifacts/\n.cache/\n")

    def commit(models: str, accuracy: float = 0.5, params: Params = default) -> str:
        (folder / "dvc.lock").write_text(json.dumps(result_lock(params, models)))
        (folder / "params.yaml").write_text(json.dumps(params.model_dump()))
        (folder / "reports").mkdir(exist_ok=True)
        (folder / "reports/metrics.json").write_text(json.dumps({"accuracy": accuracy}))
        git("add", "-A")
        git("commit", "-q", "-m", models)
        return git("rev-parse", "HEAD")

    return commit


def add_experiment(name: str, baseline: str, revision: str) -> None:
    """Keep a commit as DVC keeps an experiment."""
    git("update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}", revision)


def log_run(
    params: Params, models: str, name: str = "", status: str = "FINISHED", **tags: str
) -> str:
    """Log a run that has all parts of a result; `tags` take precedence, "" leaves a tag out."""
    experiment = store.experiment_id(params.dataset.name)  # which connects
    client = MlflowClient()
    defaults = {
        provenance.FINGERPRINT: "f",
        provenance.MODELS: models,
        provenance.TEST: f"test-of-{models}",
        provenance.EXPERIMENT: name,
        provenance.COMMIT: "c0ffee",
    }
    merged = defaults | {key.replace("__", "."): value for key, value in tags.items()}
    run = client.create_run(
        experiment,
        tags={key: value for key, value in merged.items() if value},
    )
    run_id = str(run.info.run_id)
    client.log_batch(
        run_id,
        [Metric(name, 0.5, 1, 0) for _, name in MARKS.values()],
        [Param(key, str(value)) for key, value in params.flat().items()],
    )
    for path in (*FILES, CHECKPOINT):
        client.log_text(run_id, "", path if "." in path else f"{path}/file.txt")
    model = client.create_logged_model(experiment, "model", run_id)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.set_terminated(run_id, status)
    return run_id
