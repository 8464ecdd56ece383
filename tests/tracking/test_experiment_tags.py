"""The description of an experiment is written once, and never in the place of somebody's own."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline.tracking import store
from pipeline.tracking.experiment_tags import NOTE


def note_of(name: str) -> str:
    experiment = MlflowClient().get_experiment_by_name(name)
    assert experiment is not None
    return str(experiment.tags.get(NOTE, ""))


def test_a_new_experiment_is_described_without_another_request(
    world: Path, mlflow_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MlflowClient, "set_experiment_tag", None)
    store.experiment_id("cats")
    assert note_of("cats").startswith("Trainings on the data set `cats`: ")
    store.experiment_id("cats")


def test_an_old_experiment_is_described_once_and_without_failing(
    world: Path, mlflow_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.connect()
    client = MlflowClient()
    number = client.create_experiment("cats", (world / "mlartifacts" / "cats").as_uri())

    def refuse(*_: object) -> None:
        raise MlflowException("not allowed")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_experiment_tag", refuse)
        assert store.experiment_id("cats") == number
    assert note_of("cats") == ""
    store.experiment_id("cats")
    assert "`cats`" in note_of("cats")
    client.set_experiment_tag(number, NOTE, "our own words")
    store.experiment_id("cats")
    assert note_of("cats") == "our own words"
