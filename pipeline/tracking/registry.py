"""MLflow's registry of models: one registered model per data set, with a champion."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from pipeline.core import atomic, dvc_lock, project
from pipeline.core.errors import PipelineError
from pipeline.tracking import store
from pipeline.tracking.store import MlflowRun

CHAMPION, CHALLENGER = "champion", "challenger"  # aliases: the model in use, and the newest
DIGEST = "model.digest"  # tag of a version: DVC's digest of its model folder
LOGGED = "models:/"  # before the id of a logged model
MISSING = ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    """Of the registered model: a data set's."""
    number: str
    run_id: str
    model_id: str
    """Of MLflow's logged model."""
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return f"version {self.number}"


def _version(version: ModelVersion) -> Version:
    return Version(
        version.name,
        str(version.version),
        str(version.run_id),
        str(version.source).removeprefix(LOGGED),  # stores do not keep version.model_id
        dict(version.tags),
    )


@store.errors_as_sentences()
def find_version(name: str, alias: str) -> Version | None:
    """The version that an alias, or its number, names; None if there is none."""
    client = MlflowClient()
    try:
        number = client.get_registered_model(name).aliases.get(alias, alias)
        return _version(client.get_model_version(name, str(number))) if _is_number(number) else None
    except MlflowException as error:
        if error.error_code == MISSING:
            return None
        raise


def _is_number(text: object) -> bool:
    return str(text).isdecimal()


@store.errors_as_sentences()
def find_model(run: MlflowRun) -> str:
    """The id of the logged model of a run.

    Raises:
        PipelineError: the run has none that is complete.
    """
    query = f"source_run_id = '{run.info.run_id}'"
    models = MlflowClient().search_logged_models([run.info.experiment_id], query)
    for model in models:
        if model.status == LoggedModelStatus.READY:
            return str(model.model_id)
    raise PipelineError(
        f"run {run.info.run_id[:8]} has no model: `pipeline sync` adds it, if DVC has its files"
    )


@store.errors_as_sentences()
def find_digest(name: str, digest: str) -> Version | None:
    """The version whose model has this digest of DVC's, of whatever run; None if there is none."""
    versions = map(_version, MlflowClient().search_model_versions(f"name = '{name}'"))
    same = [version for version in versions if version.tags.get(DIGEST) == digest]
    return min(same, key=lambda version: int(version.number), default=None)


@store.errors_as_sentences()
def register(name: str, run_id: str, model_id: str, digest: str) -> Version:
    """The version of a model, registered if its bytes are not; it becomes the challenger."""
    client, version = MlflowClient(), find_digest(name, digest)
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != MISSING:
            raise
        client.create_registered_model(name)
    if version is None:
        source, tags = LOGGED + model_id, {DIGEST: digest}
        version = _version(
            client.create_model_version(name, source, run_id, tags=tags, model_id=model_id)
        )
    client.set_registered_model_alias(name, CHALLENGER, version.number)
    return version


@store.errors_as_sentences()
def set_champion(version: Version) -> None:
    """Have the alias of the champion name this version."""
    MlflowClient().set_registered_model_alias(version.name, CHAMPION, version.number)


@store.errors_as_sentences()
def set_tags(version: Version, tags: Mapping[str, str]) -> None:
    """Set tags of a version, in order."""
    client = MlflowClient()
    for key, value in tags.items():
        client.set_model_version_tag(version.name, version.number, key, value)


@store.errors_as_sentences()
def fetch_model(model_id: str, digest: str = "") -> Path:
    """The files of a logged model, in .cache; fetched once.

    Args:
        digest: DVC's, of the model folder in it; "": not known.

    Raises:
        PipelineError: the files are not those that the run recorded.
    """
    target = project.cache() / "registered" / model_id
    if not target.is_dir():
        with atomic.replacing(target) as staged:
            staged.mkdir()
            mlflow.artifacts.download_artifacts(LOGGED + model_id, dst_path=str(staged))
    if digest and dvc_lock.digest(model_folder(target)) != digest:
        raise PipelineError(
            f"the files of model {model_id} at {store.address()} are not those that its run "
            "recorded: promote another run, or make this one again (`pipeline reproduce`)"
        )
    return target


def model_folder(fetched: Path) -> Path:
    """The model folder in a fetched logged model."""
    folders = [path.parent for path in fetched.glob("data/*/model.json")]
    if len(folders) != 1:
        raise PipelineError(f"{fetched} is not a model of this project: see `pipeline runs`")
    return folders[0]
