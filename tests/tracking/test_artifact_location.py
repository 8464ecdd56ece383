"""Where artifacts go. tests/system/test_server.py has the contradictions."""

from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from pipeline.tracking import artifact_location

DATABASE = "postgresql+psycopg://127.0.0.1/mlflow"


def test_a_server_decides_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", "s3://bucket")
    assert artifact_location.of_new_experiment("pets", "https://mlflow.example.org") is None


def test_the_project_s_own_database_has_its_artifacts_beside_it(world: Path) -> None:
    location = artifact_location.of_new_experiment("pets", f"sqlite:///{world}/mlflow.db")
    assert location == (world / "mlartifacts/pets").as_uri()


@pytest.mark.parametrize("variable", artifact_location.VARIABLES)
def test_a_variable_of_mlflow_says_where(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "s3://bucket/mlflow/")
    assert artifact_location.of_new_experiment("pets", DATABASE) == "s3://bucket/mlflow/pets"


def test_a_folder_is_relative_to_the_project(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", "with blank")
    location = artifact_location.of_new_experiment("pets", DATABASE)
    assert location == (world / "with blank/pets").as_uri()
    artifact_location.make_folder(str(location))
    assert (world / "with blank/pets").is_dir()


def test_without_any_nothing_is_recorded(world: Path) -> None:
    with pytest.raises(MlflowException, match="MLFLOW_ARTIFACTS_DESTINATION must say where"):
        artifact_location.of_new_experiment("pets", DATABASE)
