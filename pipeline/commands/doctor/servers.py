"""DVC's remote and MLflow's server: whether they answer, and accept the credentials."""

import importlib.util
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.commands.doctor.finding import Finding
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import without_password
from pipeline.experiments import dvc
from pipeline.tracking import store

TIMEOUT = 30  # seconds; some clients retry for minutes


def examine_remote(repo: Any) -> Iterator[Finding]:
    """DVC's default remote, if there is one."""
    name = repo.config["core"].get("remote")
    if not name:
        return
    url = without_password(str(repo.config["remote"].get(name, {}).get("url", "")))
    remote = f"DVC's remote {name} ({url})"
    if url.startswith("s3://") and importlib.util.find_spec("dvc_s3") is None:
        yield Finding(f"{remote} needs the package dvc-s3", "`make remote` installs it")
        return
    if "://" not in url and not Path(url).is_dir():
        yield Finding(
            f"the folder of {remote} does not exist here",
            "mount it; or create it, and `dvc push` fills it",
        )
        return
    advice = "docs/remotes.md has the settings and credentials; work goes on without it"
    if problem := _answer(lambda: _list(repo, name)):
        yield Finding(f"{remote} does not answer ({problem})", advice)


def _list(repo: Any, name: str) -> None:
    with dvc.errors_as_sentences("it cannot be listed", "see `dvc doctor`"):
        remote = repo.cloud.get_remote(name)
        next(iter(remote.fs.ls(remote.path, detail=False)), None)


def examine_mlflow() -> Iterator[Finding]:
    """The server that MLFLOW_TRACKING_URI names."""
    if store.connect() or store.address().startswith(store.SQLITE):
        return
    if problem := _answer(store.ping):
        yield Finding(
            f"MLflow's server {store.address()} does not answer ({problem})",
            "check MLFLOW_TRACKING_URI, and MLFLOW_TRACKING_USERNAME and _PASSWORD; training works "
            "without it, and `pipeline sync` records later what it has missed",
        )


def _answer(ask: Callable[[], object]) -> str:
    """Why something does not answer; "" if it does."""
    problems = [f"no answer in {TIMEOUT} s"]

    def ask_and_note() -> None:
        try:
            ask()
        except PipelineError as error:
            problems.append(str(error.__cause__ or error))
        else:
            problems.append("")

    thread = threading.Thread(target=ask_and_note, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return " ".join(problems[-1].split())
