"""One MLflow run per trained model; with `flavor` the only importer of mlflow.

A server that cannot be reached costs the record of a run, never the training.
"""

import fcntl
import hashlib
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the default waits for minutes
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")  # seconds

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from ruamel.yaml import YAML
from sqlalchemy.exc import SQLAlchemyError
from torch import nn

from pipeline import atomic, flavor, project, tensors
from pipeline.errors import PipelineError
from pipeline.params import Params

FLUSH = 1.0  # seconds that metrics wait for others to go with
MOST_METRICS = 500  # MLflow takes 1,000 at a time
# The errors of requests are OSErrors; those of a database that does not open are SQLAlchemy's.
UNREACHABLE = (MlflowException, SQLAlchemyError, OSError)


class Run:
    """An open MLflow run, or, after a failure to reach the server, nothing but its silence."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._waiting: list[Metric] = []
        self._sent = 0.0
        """When metrics were sent last, by the monotonic clock."""

    def start(self, settings: Params, tags: Mapping[str, str]) -> None:
        """Open a new run with its params and tags."""

        def opened() -> None:
            experiment = _experiment(settings.dataset.name)
            run = mlflow.start_run(experiment_id=experiment, run_name=_run_name(tags))
            self._id = run_id = run.info.run_id
            MlflowClient().log_batch(
                run_id,
                params=[Param(key, str(value)) for key, value in settings.flat().items()],
                tags=[RunTag(key, value) for key, value in tags.items()],
            )

        self._try(opened, first=True)

    def resume(self, run_id: str) -> None:
        """Open a run again, to add to it."""

        def opened() -> None:
            self._id = mlflow.start_run(run_id=run_id).info.run_id

        self._try(opened, first=True)

    def end(self, status: str) -> None:
        self._flush()
        self._try(lambda: mlflow.end_run(status))

    def validation(self, record: Mapping[str, float]) -> None:
        """Log a validation's figures at its step; `record` names them, and its `step`."""
        values = {name: value for name, value in record.items() if name != "step"}
        self.metrics(values, step=int(record["step"]))

    def best(self, history: Sequence[Mapping[str, float]]) -> None:
        """Log the figures of the weights that were kept: curves end with the last ones."""
        kept = min(history, key=lambda record: record["val_loss"])
        self.metrics({f"best.{name}": value for name, value in kept.items()})

    def metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Log figures at a step, at the latest a second or so later: an epoch may take less."""
        now = int(time.time() * 1000)
        self._waiting += [
            Metric(re.sub(r"[^\w\-./ ]", "_", name), float(value), now, step)
            for name, value in values.items()
            if value is not None
        ]
        if time.monotonic() - self._sent > FLUSH or len(self._waiting) > MOST_METRICS:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting, self._sent = self._waiting, [], time.monotonic()
        for start in range(0, len(waiting), MOST_METRICS):
            self._try(partial(self._send, waiting[start : start + MOST_METRICS]))

    def _send(self, some: list[Metric]) -> None:
        MlflowClient().log_batch(str(self._id), metrics=some)

    def artifacts(self, directory: Path, name: str) -> None:
        """Log the files of a folder below `name`."""
        self._try(lambda: mlflow.log_artifacts(str(directory), name))

    def artifact(self, path: Path, name: str) -> None:
        """Log a file below `name`."""
        self._try(lambda: mlflow.log_artifact(str(path), name))

    def text(self, content: str, name: str) -> None:
        """Log a text as the file `name`."""
        self._try(lambda: mlflow.log_text(content, name))

    def checkpoint(self, suffix: nn.Module, name: str) -> None:
        """Log the weights of what trains, below `checkpoint`."""

        def log() -> None:
            with tempfile.TemporaryDirectory() as folder:
                tensors.write(Path(folder, f"{name}.safetensors"), suffix.state_dict())
                mlflow.log_artifacts(folder, "checkpoint")

        self._try(log)

    def model(self, models: Path, suffix: nn.Module | None) -> None:
        """Log the model, able to predict, and as checkpoint what training changed of it."""
        if suffix is not None:
            self.checkpoint(suffix, "trained")

        def log() -> None:
            Model.log(None, flavor, name="model", flavor_name="pyfunc", models=models)
            mlflow.set_tag("model.sha256", digest(models))  # last: by it a whole run is found

        self._try(log)

    def _try(self, action: Callable[[], Any], first: bool = False) -> None:
        if self._id is None and not first:
            return
        try:
            action()
        except UNREACHABLE as error:
            self._id = None
            with suppress(*UNREACHABLE):  # or mlflow would try the same again when Python exits
                mlflow.end_run("FAILED")
            reason = " ".join(str(error).split())[:200]
            print(
                f"warning: MLflow at {mlflow.get_tracking_uri()} fails ({reason}); the work goes "
                "on without it. Record this model later with: dvc repro -s -f evaluate",
                file=sys.stderr,
            )


@contextmanager
def training(settings: Params) -> Iterator[Run]:
    """The run of a training: FINISHED when the block ends well, else FAILED or KILLED."""
    run = Run()
    run.start(settings, provenance())
    try:
        yield run
    except KeyboardInterrupt:
        run.end("KILLED")
        raise
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED")


def evaluation(
    settings: Params, models: Path, suffix: nn.Module | None,
    history: Sequence[Mapping[str, float]], figures: Mapping[str, float | None], test: Path,
    page: str,
) -> None:  # fmt: skip
    """Add a test result to the run that trained the model; create that run where it is missing.

    Args:
        page: HTML of the report.
    """
    run, tags = Run(), provenance()
    try:
        found = _find(settings, tags, digest(models))
    except UNREACHABLE:
        found = None  # starting a run says what is wrong
    if found:
        run.resume(found)
    else:
        run.start(settings, tags)
        for record in history:
            run.validation(record)
        run.best(history)
        run.model(models, suffix)
    run.metrics({f"test.{name}": value for name, value in figures.items()})
    run.artifacts(test, "test")
    run.text(page, "report.html")
    run.end("FINISHED")


def fetch(run_id: str, path: str) -> str:
    """The text of an artifact of a run.

    Raises:
        PipelineError: there is no such run, or it has none of that name.
    """
    _connect()
    try:
        return str(mlflow.artifacts.load_text(f"runs:/{run_id}/{path}"))
    except UNREACHABLE as error:
        why = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"MLflow run {run_id} has no {path} ({why}): name a run that was evaluated"
        ) from error


def digest(models: Path) -> str:
    """sha256 of the model's weights file, in hex."""
    with (models / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def provenance() -> dict[str, str]:
    """Where a model comes from: DVC's experiment, the commit, and DVC's digests of the data."""
    tags = {
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dvc.baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        "git.commit": os.environ.get("DVC_EXP_BASELINE_REV", "") or _head(),
    }
    lock = Path("dvc.lock")
    stages = YAML(typ="safe", pure=True).load(lock)["stages"] if lock.exists() else {}
    for name in ("acquire", "filter", "split", "features"):
        for out in stages.get(name, {}).get("outs", ()):
            tags[f"data.{Path(out['path']).stem}"] = out["md5"]
    return tags


def _head() -> str:
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()  # noqa: S603


def _run_name(tags: Mapping[str, str]) -> str:
    return tags["dvc.experiment"] or f"repro-{tags['git.commit'][:7]}"


def _experiment(name: str) -> str:
    """The id of an MLflow experiment, one per data set: only such runs compare.

    A fresh database is created by one process at a time: two would race over its tables.
    """
    local = _connect()
    project.cache().mkdir(exist_ok=True)
    with (project.cache() / "mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if local:
            _create_database(project.root() / "mlflow.db")
        client = MlflowClient()
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = (project.root() / "mlartifacts" / name).as_uri() if local else None
        return str(client.create_experiment(name, artifact_location=place))


def _create_database(path: Path) -> None:
    """Make MLflow's tables aside and rename: a kill in the middle would leave half of them."""
    if not path.exists():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        with atomic.replacing(path) as staged:
            place = (project.root() / "mlartifacts").as_uri()
            store = SqlAlchemyStore(f"sqlite:///{staged}", place)  # type: ignore[no-untyped-call]
            store.engine.dispose()


def _connect() -> bool:
    """Point mlflow at its store; return whether that is the project's own."""
    for name in ("alembic", "mlflow.store", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.ERROR)  # hundreds of lines about tables
    local = f"sqlite:///{project.root() / 'mlflow.db'}"
    # mlflow itself sets this variable, to the same value, when the address is set below.
    chosen = os.environ.get("MLFLOW_TRACKING_URI") or local
    mlflow.set_tracking_uri(chosen)
    return chosen == local


def _find(settings: Params, tags: Mapping[str, str], sha256: str) -> str | None:
    """The newest run of this model, experiment and commit."""
    experiment = _experiment(settings.dataset.name)
    query = f"tags.`model.sha256` = '{sha256}'"
    for run in MlflowClient().search_runs([experiment], query, order_by=["start_time DESC"]):
        # Compared here: a search does not find tags that are empty.
        if all(run.data.tags.get(key, "") == tags[key] for key in ("dvc.experiment", "git.commit")):
            return str(run.info.run_id)
    return None
