"""Repositories whose dvc.lock holds results that nobody computed."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.params import Params

Commit = Callable[..., str]


def git(*arguments: str) -> str:
    names = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    done = subprocess.run(["git", *names, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def lock_of(settings: Params, models: str, tested: str | None = None) -> dict[str, Any]:
    """As DVC writes it after a whole run; `tested`: the model that evaluate had, if another."""

    def outs(**digests: str) -> list[dict[str, str]]:
        return [{"path": path, "hash": "md5", "md5": md5} for path, md5 in digests.items()]

    params = {"params.yaml": settings.model_dump()}
    return {
        "schema": "2.0",
        "stages": {
            "split": {"cmd": "x", "outs": outs(**{"data/split.csv": "5" * 32})},
            "train": {"cmd": "x", "params": params, "outs": outs(models=models)},
            "evaluate": {
                "cmd": "x",
                "params": params,
                "deps": outs(models=tested or models),
                "outs": outs(**{"reports/test": f"test-of-{models}"}),
            },
        },
    }


def committing(world: Path, settings: Params) -> Commit:
    """What commits a result to a repository that is made for it, and tells the commit."""
    git("init", "-q", "-b", "main")
    (world / ".gitignore").write_text("mlflow.db\nmlartifacts/\n.cache/\n")

    def committed(models: str, accuracy: float = 0.5, params: Params = settings) -> str:
        (world / "dvc.lock").write_text(json.dumps(lock_of(params, models)))
        (world / "params.yaml").write_text(json.dumps(params.model_dump()))
        (world / "reports").mkdir(exist_ok=True)
        (world / "reports/metrics.json").write_text(json.dumps({"accuracy": accuracy}))
        git("add", "-A")
        git("commit", "-q", "-m", models)
        return git("rev-parse", "HEAD")

    return committed


def experiment(name: str, baseline: str, revision: str) -> None:
    """Keep a commit as DVC keeps an experiment."""
    git("update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}", revision)
