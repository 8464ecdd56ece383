"""A run is attested, and a stranger with a clone trains the same bytes again."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.builders.attestations import key, write_key
from tests.project import Project


@pytest.fixture
def project(first_run: Project, tmp_path: Path) -> Project:
    project = first_run.copied(tmp_path / "project")
    (project.folder / "requirements.lock").write_text("torch==2\n")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "packages")
    return project


def test_a_run_is_attested_and_trained_again(project: Project, tmp_path: Path) -> None:
    (run,) = project.runs()
    private_key = write_key(tmp_path / "key.pem", key())
    project.pipeline("attest", str(run.info.run_id)[:8], "--key", str(private_key))
    (logged,) = MlflowClient().list_artifacts(run.info.run_id, "attestation")
    assert logged.path.endswith(".dsse.json")
    signer = "attestation/signer.pem"
    output = project.pipeline("verify", "--key", signer, "--data", "--recompute")
    assert "computing train" in output.splitlines()
    assert output.splitlines()[-2:] == ["trained again: the same bytes", "verified"]

    model = project.folder / "models/model.json"
    text = model.read_text()
    model.unlink()  # a hard link of DVC's cache
    model.write_text(text.replace("1", "2", 1))
    result = project.python("-m", "pipeline", "verify", "--key", signer)
    assert result.returncode == 1
    assert "differs: models/model.json has other bytes" in result.stdout
    result = project.python("-m", "pipeline", "attest", "--key", str(private_key))
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1].startswith("error: models has changed since `dvc repro`")
