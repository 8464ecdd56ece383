"""MLflow's store: the project's own, or the one that MLFLOW_TRACKING_URI names."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # mlflow reads it when imported

import mlflow
from filelock import FileLock
from mlflow import MlflowClient, entities
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.core import atomic, project
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import one_line, printable, without_password

# The errors of requests are OSErrors; a database that does not open raises SQLAlchemy's, and one
# without its driver ImportError.
UNREACHABLE = (MlflowException, SQLAlchemyError, OSError, ImportError)
MlflowRun = entities.Run
KIND = "mlflow.experimentKind"  # without it, MLflow shows the pages of language models
PAGE_SIZE = 1000  # runs per request
SQLITE = "sqlite:///"
ENVIRONMENT = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # by default it retries for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds
}


def connect() -> bool:
    """Point mlflow at its store; return whether that is the project's own."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "mlflow.store", "mlflow.tracking", "mlflow.system_metrics"):
        logging.getLogger(name).setLevel(logging.ERROR)  # hundreds of lines about tables
    own = f"{SQLITE}{project.root() / 'mlflow.db'}"
    # mlflow itself sets this variable, to the same value, when the URI is set below.
    uri = os.environ.get("MLFLOW_TRACKING_URI") or own
    if uri.startswith(SQLITE) and not uri.startswith(f"{SQLITE}/"):
        # Not relative to the working directory, which may be a temporary copy made by DVC.
        uri = f"{SQLITE}{project.root() / uri.removeprefix(SQLITE)}"
    mlflow.set_tracking_uri(uri)
    return uri == own


def address() -> str:
    """The URI of the store, without its password."""
    return without_password(str(mlflow.get_tracking_uri()))


def describe_error(error: BaseException) -> str:
    """The message of an error on one short line; of a connection, the system's message."""
    cause = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    if isinstance(cause, OSError) and cause.strerror:
        return printable(cause.strerror)
    kind = "" if isinstance(error, UNREACHABLE) else f"{type(error).__name__}: "
    return kind + one_line(error)


def catch_error(action: Callable[[], object]) -> Exception | None:
    """Run an action that only the record needs; return its error, for a warning.

    Each kind of storage has its own errors (of a missing plugin, S3, a database), and a bug in
    the record must not cost hours of training either. The warning contains the error's type.
    """
    try:
        action()
    except Exception as error:  # noqa: BLE001 - for the reason above
        return error
    return None


@contextmanager
def exclusive(name: str = "mlflow") -> Iterator[None]:
    """Lock the project's lock of this name; other processes wait for it."""
    with FileLock(project.cache() / f"{name}.lock"):
        yield


def experiment_id(name: str) -> str:
    """The id of an MLflow experiment, which is created if missing: one per data set.

    One process at a time creates a new database: two would create the same tables.
    """
    is_own = connect()
    with exclusive():
        if is_own:
            _create_database(project.root() / "mlflow.db")
        client = MlflowClient()
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            location = _artifact_location(name)
            return str(client.create_experiment(name, location, {KIND: "custom_model_development"}))
        if experiment.lifecycle_stage != "active":
            raise MlflowException(f"experiment {name} is deleted: `mlflow experiments restore` it")
        return str(experiment.experiment_id)


def open_store() -> None:
    """Open the store, which creates the project's own where it is missing."""
    is_own = connect()
    with exclusive():
        if is_own:
            _create_database(project.root() / "mlflow.db")
    MlflowClient().search_experiments(max_results=1)


def _artifact_location(name: str) -> str | None:
    """The folder of an experiment's artifacts; None where a server decides."""
    uri = str(mlflow.get_tracking_uri())
    if uri.startswith(("http:", "https:", "databricks")):
        return None
    # By default it is below the working directory, which may be one that DVC removes.
    return (project.root() / "mlartifacts" / name).as_uri()


def _create_database(path: Path) -> None:
    """Create MLflow's database under another name and rename it: a kill leaves no partial file."""
    if not path.exists():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        with atomic.replacing(path) as staged:
            artifacts = (project.root() / "mlartifacts").as_uri()
            store = SqlAlchemyStore(f"{SQLITE}{staged}", artifacts)  # type: ignore[no-untyped-call]
            store.engine.dispose()


def search_runs(
    query: str, experiments: list[str] | None = None, client: MlflowClient | None = None
) -> list[MlflowRun]:
    """All runs that match a query, newest first.

    Args:
        experiments: Ids; None for all experiments.
        client: Of another store than the connected one.

    Source: "Search Runs" of MLflow's documentation.
    """
    client = client or MlflowClient()
    if experiments is None:
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs: list[MlflowRun] = []
    token = None
    while experiments:
        page = client.search_runs(
            experiments,
            query,
            max_results=PAGE_SIZE,
            order_by=["start_time DESC"],
            page_token=token,
        )
        runs += page
        token = page.token
        if not token:
            break
    return runs


def exists() -> bool:
    """Whether there is a store; the first training creates the project's own."""
    return not connect() or (project.root() / "mlflow.db").exists()


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Turn the errors of a store into one sentence.

    Raises:
        PipelineError: the store does not answer, or refuses.
    """
    try:
        yield
    except UNREACHABLE as error:
        raise PipelineError(
            f"MLflow at {address()} fails ({describe_error(error)}): see MLFLOW_TRACKING_URI"
        ) from error


def ping() -> None:
    """Ask the store for one experiment.

    Raises:
        PipelineError: it does not answer, or refuses the credentials.
    """
    with errors_as_sentences():
        MlflowClient().search_experiments(max_results=1)


def load_text(run_id: str, path: str) -> str:
    """The text of an artifact of a run.

    Raises:
        PipelineError: there is no such run, or it has no such artifact.
    """
    connect()
    try:
        return str(mlflow.artifacts.load_text(f"runs:/{run_id}/{path}"))
    except UNREACHABLE as error:
        raise PipelineError(
            f"MLflow run {run_id} has no {path} ({describe_error(error)}): name a run that was "
            "evaluated"
        ) from error


def set_tag(run_id: str, name: str, value: str) -> None:
    """Set a tag of a run that has ended."""
    connect()
    with errors_as_sentences():
        MlflowClient().set_tag(run_id, name, value)
