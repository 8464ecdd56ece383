"""MLflow's store: the project's own, or the one that MLFLOW_TRACKING_URI names."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow import MlflowClient, entities
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from pipeline.core import atomic, project
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import one_line, printable, without_password
from pipeline.tracking import artifact_location, experiment_tags, postgres, sqlite
from pipeline.tracking.missing_packages import describe_missing_package

# The errors of requests are OSErrors; a database that does not open raises SQLAlchemy's, and one
# without its driver ImportError.
UNREACHABLE = (MlflowException, SQLAlchemyError, OSError, ImportError)
MlflowRun = entities.Run
PAGE_SIZE = 1000  # runs per request
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
    for name in ("alembic", "mlflow.store", "mlflow.tracking", "mlflow.system_metrics", "psycopg"):
        logger = logging.getLogger(name)
        if logger.level != logging.ERROR:  # setting it costs a millisecond for all other loggers
            logger.setLevel(logging.ERROR)  # hundreds of lines about tables
    own = sqlite.to_address(project.root() / "mlflow.db")
    # mlflow itself sets this variable, to the same value, when the URI is set below.
    # Not relative to the working directory, which may be a temporary copy made by DVC.
    uri = sqlite.resolve(os.environ.get("MLFLOW_TRACKING_URI") or own, project.root())
    if postgres.is_postgres(uri):
        uri = postgres.with_driver(uri)
        _do_not_retry()
    mlflow.set_tracking_uri(uri)
    return uri == own


def _do_not_retry() -> None:
    """Have mlflow try once to open a database; by default it tries for minutes, without a word."""
    import mlflow.store.db.utils

    mlflow.store.db.utils.MAX_RETRY_COUNT = 1


def address() -> str:
    """The URI of the store as people write it, without its password."""
    if path := database_file():
        return f"{sqlite.PREFIX}{path}"
    uri = str(mlflow.get_tracking_uri())
    return without_password(uri).replace(postgres.DRIVER, "postgresql://")


def database_file() -> Path | None:
    """The file that has the store; None for a server's."""
    return sqlite.to_path(str(mlflow.get_tracking_uri()))


def describe_error(error: BaseException) -> str:
    """The message of an error on one short line; of a connection, the system's message."""
    cause = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    if isinstance(cause, OSError) and cause.strerror:
        return printable(cause.strerror)
    if problem := describe_missing_package(cause):
        return problem
    if isinstance(error, DBAPIError) and error.orig is not None:
        return one_line(error.orig)  # without SQLAlchemy's advice
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
    """Lock the project's lock of this name; other processes wait for it.

    Where PostgreSQL has the store, those on other machines wait, too.
    """
    with FileLock(project.cache() / f"{name}.lock"):
        connect()
        uri = str(mlflow.get_tracking_uri())
        with postgres.exclusive(uri, name) if postgres.is_postgres(uri) else nullcontext():
            yield


def experiment_id(name: str) -> str:
    """The id of an MLflow experiment, which is created if missing: one per data set.

    One process at a time creates a new database: two would create the same tables. A machine that
    shares nothing but an MLflow server may create the experiment at the same moment.
    """
    is_own = connect()
    with exclusive():
        if is_own:
            sqlite.create_database(project.root() / "mlflow.db")
        client = MlflowClient()
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return _create_experiment(client, name)
        if experiment.lifecycle_stage != "active":
            raise MlflowException(f"experiment {name} is deleted: `mlflow experiments restore` it")
        artifact_location.check_existing(experiment, str(mlflow.get_tracking_uri()))
        experiment_tags.add_note(client, experiment)
        return str(experiment.experiment_id)


def _create_experiment(client: MlflowClient, name: str) -> str:
    location = artifact_location.of_new_experiment(name, str(mlflow.get_tracking_uri()))
    if location is not None:
        artifact_location.make_folder(location)
    try:
        return str(client.create_experiment(name, location, experiment_tags.new_tags(name)))
    except MlflowException as error:
        experiment = client.get_experiment_by_name(name)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
            raise
        return str(experiment.experiment_id)


def open_store() -> None:
    """Open the store, which creates what it lacks: the project's own file, a database's tables."""
    is_own = connect()
    with exclusive():
        if is_own:
            sqlite.create_database(project.root() / "mlflow.db")
        if postgres.is_postgres(str(mlflow.get_tracking_uri())):
            MlflowClient()  # creates the tables
    MlflowClient().search_experiments(max_results=1)


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
        PipelineError: the store does not answer, or refuses; or a file of ours cannot be written.
    """
    try:
        yield
    except UNREACHABLE as error:
        if isinstance(error, OSError) and error.filename and error.errno in atomic.NO_WRITING:
            raise PipelineError(f"{error.filename}: {error.strerror}") from error
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


def check_artifacts(name: str) -> None:
    """List where the artifacts of an experiment are, or would be if there were one.

    Raises:
        PipelineError: they cannot be there.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    def list_artifacts() -> None:
        uri = str(mlflow.get_tracking_uri())
        experiment = MlflowClient().get_experiment_by_name(name)
        if experiment is None:
            location = artifact_location.of_new_experiment(name, uri)
        else:
            artifact_location.check_existing(experiment, uri)
            location = str(experiment.artifact_location)
        if location is not None:
            get_artifact_repository(location).list_artifacts()

    connect()
    if error := catch_error(list_artifacts):
        raise PipelineError(describe_error(error)) from error


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


@errors_as_sentences()
def get_run(run_id: str) -> MlflowRun:
    """The run with this id.

    Raises:
        PipelineError: there is none.
    """
    connect()
    return MlflowClient().get_run(run_id)


@errors_as_sentences()
def add_file(run_id: str, path: Path, artifact: str) -> None:
    """Log a file as an artifact of a run that has ended, unless the run has it.

    Args:
        artifact: Its path among the artifacts: a folder, and the name of the file.
    """
    client, folder = MlflowClient(), artifact.rpartition("/")[0]
    if artifact not in {entry.path for entry in client.list_artifacts(run_id, folder)}:
        with tempfile.TemporaryDirectory() as staged:
            copy = shutil.copyfile(path, Path(staged, Path(artifact).name))
            client.log_artifact(run_id, str(copy), folder)


def set_tag(run_id: str, name: str, value: str) -> None:
    """Set a tag of a run that has ended."""
    connect()
    with errors_as_sentences():
        MlflowClient().set_tag(run_id, name, value)
