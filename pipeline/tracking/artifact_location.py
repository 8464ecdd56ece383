"""Where the artifacts of an experiment are, if its database is reached without MLflow's server."""

import os
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException

from pipeline.core import project
from pipeline.core.terminal import warn, without_password

VARIABLES = ("MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_DEFAULT_ARTIFACT_ROOT")  # of `mlflow server`
SERVERS = ("http:", "https:", "databricks")
FILE_DATABASE = "sqlite"
PROXIED = "mlflow-artifacts:"


def of_new_experiment(name: str, uri: str) -> str | None:
    """The address of a new experiment's artifacts; None where MLflow's server decides.

    Args:
        uri: Of the store.

    Raises:
        MlflowException: the database is for several machines, and nothing says where artifacts go.
    """
    if uri.startswith(SERVERS):
        return None
    _, destination = read_destination()
    if destination:
        location = f"{destination.rstrip('/')}/{name}"
    elif uri.startswith(FILE_DATABASE):
        # By default it is below the working directory, which may be one that DVC removes.
        location = (project.root() / "mlartifacts" / name).as_uri()
    else:
        raise MlflowException(
            f"MLFLOW_TRACKING_URI is a database, so {VARIABLES[0]} must say where artifacts go, "
            "such as s3://bucket/mlflow or a folder that all machines mount"
        )
    return location


def read_destination() -> tuple[str, str]:
    """The variable that says where artifacts go, and the address; ("", "") if none is set."""
    for variable in VARIABLES:
        if value := os.environ.get(variable, "").strip():
            is_path = "://" not in value and not value.startswith("file:")
            path = project.root() / Path(value).expanduser()
            return variable, path.as_uri() if is_path else value
    return "", ""


def check_existing(experiment: Experiment, uri: str) -> None:
    """Warn if the artifacts of an existing experiment go elsewhere than the variables say.

    Raises:
        MlflowException: this machine cannot write them where they go.
    """
    name, location = str(experiment.name), str(experiment.artifact_location)
    if uri.startswith(SERVERS):
        return
    if location.startswith(PROXIED):
        raise MlflowException(
            f"the artifacts of experiment {name} go through MLflow's server: set "
            "MLFLOW_TRACKING_URI to the server's address and not to the database's"
        )
    folder = _local_folder(location)
    if folder is not None and not uri.startswith(FILE_DATABASE) and not folder.is_dir():
        raise MlflowException(
            f"the artifacts of experiment {name} go to {folder}, which this machine does not have: "
            "mount it, or take another name for the data set"
        )
    variable, destination = read_destination()
    if destination and not f"{location}/".startswith(f"{destination.rstrip('/')}/"):
        _warn_of_location(name, location, variable)


@cache
def _warn_of_location(name: str, location: str, variable: str) -> None:
    """Warn once per process."""
    warn(
        f"experiment {name} keeps its artifacts at {without_password(location)}: {variable} is for "
        "new experiments"
    )


def make_folder(location: str) -> None:
    """Make the folder of a new experiment, if its artifacts go to one: it is expected later."""
    if (folder := _local_folder(location)) is not None:
        folder.mkdir(parents=True, exist_ok=True)


def _local_folder(location: str) -> Path | None:
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme else Path(location)
