"""Tags of an MLflow experiment: its kind, and what MLflow shows as its description."""

from contextlib import suppress

from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

KIND = "mlflow.experimentKind"  # without it, MLflow shows the pages of language models
NOTE = "mlflow.note.content"


def new_tags(name: str) -> dict[str, str]:
    """The tags with which the experiment of a data set is created."""
    note = (
        f"Trainings on the data set `{name}`: each model that `dvc repro`, `dvc exp run` or "
        "`pipeline sweep` trains is a run, and `pipeline runs` pairs the runs with DVC's results."
    )
    return {KIND: "custom_model_development", NOTE: note}


def add_note(client: MlflowClient, experiment: Experiment) -> None:
    """Describe an experiment that has no description, as older versions made it.

    Where that fails it stays without: no run fails for it.
    """
    if not experiment.tags.get(NOTE):
        with suppress(MlflowException, SQLAlchemyError, OSError):
            note = new_tags(str(experiment.name))[NOTE]
            client.set_experiment_tag(experiment.experiment_id, NOTE, note)
