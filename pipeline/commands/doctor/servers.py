"""DVC's remote, MLflow's server, the shared cache and the cluster: whether they can be used."""

import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.commands.doctor.finding import Finding
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import without_password
from pipeline.distributed import shared_cache
from pipeline.distributed.ray_connection import check_cluster
from pipeline.distributed.shared_cache import open_shared_cache
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
        yield Finding(f"{remote} needs the package dvc-s3", "`make env` installs it")
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


def examine_mlflow(dataset: str) -> Iterator[Finding]:
    """The server or database that MLFLOW_TRACKING_URI names, and where it has artifacts.

    Args:
        dataset: The name of the present data set, and so of MLflow's experiment.
    """
    if store.connect() or store.database_file() is not None:
        return
    if problem := _answer(store.ping):
        yield Finding(
            f"MLflow's server {store.address()} does not answer ({problem})",
            "check MLFLOW_TRACKING_URI, and MLFLOW_TRACKING_USERNAME and _PASSWORD; training works "
            "without it, and `pipeline sync` records later what it has missed",
        )
    elif problem := _answer(lambda: store.check_artifacts(dataset)):
        yield Finding(
            f"artifacts of {dataset} cannot be recorded in {store.address()} ({problem})",
            "docs/server.md has the settings and credentials",
        )


def examine_shared_cache() -> Iterator[Finding]:
    """What PIPELINE_CACHE names."""
    variable = shared_cache.VARIABLE
    if problem := _answer(_list_shared_cache):
        yield Finding(problem, f"docs/cluster.md has the settings; or unset {variable}")
        return
    folder = os.environ.get(variable, "").strip()
    if folder and "://" not in folder and not os.access(Path(folder).expanduser(), os.W_OK):
        yield Finding(
            f"{variable}={without_password(folder)} cannot be written, so nobody else gets what is "
            "computed here",
            f"give this user the right to write; or unset {variable}",
        )


def _list_shared_cache() -> None:
    cache = open_shared_cache()
    if cache is not None:
        cache.sizes("doctor")  # of no such folder; a wrong bucket or account is noticed


def examine_cluster() -> Iterator[Finding]:
    """What PIPELINE_CLUSTER names; with `auto`, nothing is started."""
    if problem := _answer(check_cluster):
        yield Finding(problem)


def _answer(ask: Callable[[], object]) -> str:
    """Why something does not answer; "" if it does."""
    problems = [f"no answer in {TIMEOUT} s"]

    def ask_and_note() -> None:
        try:
            ask()
        except PipelineError as error:
            problems.append(_describe(error))
        else:
            problems.append("")

    thread = threading.Thread(target=ask_and_note, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return " ".join(problems[-1].split())


def _describe(error: PipelineError) -> str:
    """The cause of a sentence that ends in general advice; the sentence, if it has its own."""
    cause = error.__cause__
    return str(error) if cause is None or "PIPELINE_" in str(error) else store.describe_error(cause)
