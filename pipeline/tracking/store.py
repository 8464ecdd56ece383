"""MLflow's store: the project's own, or what MLFLOW_TRACKING_URI names."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the default waits for minutes
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")  # seconds

import mlflow
from filelock import FileLock
from mlflow import MlflowClient, entities
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.core import atomic, project
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import one_line, printable, without_password

# The errors of requests are OSErrors; those of a database that does not open are SQLAlchemy's, and
# one whose driver is not installed is an import that fails.
UNREACHABLE = (MlflowException, SQLAlchemyError, OSError, ImportError)
MlflowRun = entities.Run  # a run as MLflow knows it
KIND = "mlflow.experimentKind"  # or its pages are those of language models
PAGE = 1000  # runs that are asked for at a time
SQLITE = "sqlite:///"


def connect() -> bool:
    """Point mlflow at its store; return whether that is the project's own."""
    for name in ("alembic", "mlflow.store", "mlflow.tracking", "mlflow.system_metrics"):
        logging.getLogger(name).setLevel(logging.ERROR)  # hundreds of lines about tables
    own = f"{SQLITE}{project.root() / 'mlflow.db'}"
    # mlflow itself sets this variable, to the same value, when the address is set below.
    chosen = os.environ.get("MLFLOW_TRACKING_URI") or own
    if chosen.startswith(SQLITE) and not chosen.startswith(f"{SQLITE}/"):
        # A relative path would be another one in each temporary copy that DVC runs stages in.
        chosen = f"{SQLITE}{project.root() / chosen.removeprefix(SQLITE)}"
    mlflow.set_tracking_uri(chosen)
    return chosen == own


def address() -> str:
    """Of the store, without the password that it may hold."""
    return without_password(str(mlflow.get_tracking_uri()))


def reason(error: BaseException) -> str:
    """What an error says, on one short line; of a connection, what the system said."""
    first = error
    while first.__cause__ or first.__context__:
        first = first.__cause__ or first.__context__ or first
    if isinstance(first, OSError) and first.strerror:
        return printable(first.strerror)
    kind = "" if isinstance(error, UNREACHABLE) else f"{type(error).__name__}: "
    return kind + one_line(error)


def failure(action: Callable[[], object]) -> Exception | None:
    """Do what is for the record alone; return what it fails with, for a warning to tell.

    Each kind of storage has errors of its own (a plugin that is not installed, S3's, a
    database's), and a defect of ours in here is no reason to lose hours of training either: the
    warning has its type.
    """
    try:
        action()
    except Exception as error:  # noqa: BLE001 - for the reason above, and here alone
        return error
    return None


@contextmanager
def exclusive(name: str = "mlflow") -> Iterator[None]:
    """Hold the project's lock of this name; other processes wait for it."""
    with FileLock(project.cache() / f"{name}.lock"):
        yield


def experiment(name: str) -> str:
    """The id of an MLflow experiment, one per data set: only such runs compare.

    A fresh database is created by one process at a time: two would race over its tables.
    """
    own = connect()
    with exclusive():
        if own:
            _create_database(project.root() / "mlflow.db")
        client = MlflowClient()
        found = client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage != "active":
            raise MlflowException(f"experiment {name} is deleted: `mlflow experiments restore` it")
        if found is not None:
            return str(found.experiment_id)
        # A database without a server would have them below the working directory, which may be
        # one that DVC removes.
        served = str(mlflow.get_tracking_uri()).startswith(("http:", "https:", "databricks"))
        place = None if served else (project.root() / "mlartifacts" / name).as_uri()
        return str(client.create_experiment(name, place, {KIND: "custom_model_development"}))


def _create_database(path: Path) -> None:
    """Make MLflow's tables aside and rename: a kill in the middle would leave half of them."""
    if not path.exists():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        with atomic.replacing(path) as staged:
            place = (project.root() / "mlartifacts").as_uri()
            store = SqlAlchemyStore(f"{SQLITE}{staged}", place)  # type: ignore[no-untyped-call]
            store.engine.dispose()


def runs(
    query: str, experiments: list[str] | None = None, client: MlflowClient | None = None
) -> list[MlflowRun]:
    """All runs that fit a query, the newest first; of all experiments where none are given.

    Args:
        client: Of another store than the one that is connected.

    Source: "Search Runs" of MLflow's documentation.
    """
    client = client or MlflowClient()
    if experiments is None:
        experiments = [each.experiment_id for each in client.search_experiments()]
    found: list[MlflowRun] = []
    token = None
    while experiments:
        page = client.search_runs(
            experiments, query, max_results=PAGE, order_by=["start_time DESC"], page_token=token
        )
        found += page
        token = page.token
        if not token:
            break
    return found


def exists() -> bool:
    """Whether there is a store; the project's own is made by the first training."""
    return not connect() or (project.root() / "mlflow.db").exists()


@contextmanager
def reached() -> Iterator[None]:
    """Turn what a store fails with into a sentence.

    Raises:
        PipelineError: it does not answer, or refuses.
    """
    try:
        yield
    except UNREACHABLE as error:
        raise PipelineError(
            f"MLflow at {address()} fails ({reason(error)}): see MLFLOW_TRACKING_URI"
        ) from error


def fetch(run_id: str, path: str) -> str:
    """The text of an artifact of a run.

    Raises:
        PipelineError: there is no such run, or it has none of that name.
    """
    connect()
    try:
        return str(mlflow.artifacts.load_text(f"runs:/{run_id}/{path}"))
    except UNREACHABLE as error:
        raise PipelineError(
            f"MLflow run {run_id} has no {path} ({reason(error)}): name a run that was evaluated"
        ) from error


def tag(run_id: str, name: str, value: str) -> None:
    """Set a tag of a run that has ended."""
    connect()
    with reached():
        MlflowClient().set_tag(run_id, name, value)
