"""A DVC remote on a real S3 server, on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.s3 import BUCKET, serve_s3, use_s3
from tests.project import Project, ran


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with serve_s3() as address:
        use_s3(monkeypatch, address)
        yield


def test_a_clone_pulls_from_s3_what_another_pushed(
    first_run: Project, tmp_path: Path, s3: None
) -> None:
    """Address and credentials are in the environment; .dvc/config names the bucket alone."""
    project = first_run.copied(tmp_path / "project")
    assert project.dvc("remote", "add", "-d", "store", f"s3://{BUCKET}/store").returncode == 0
    project.git("commit", "-q", "-a", "-m", "remote")
    ended = project.dvc("push", "--run-cache")
    assert ended.returncode == 0, ended.stdout
    clone = Project.cloned(project, tmp_path / "clone")
    ended = clone.dvc("pull")
    assert ended.returncode == 0, ended.stdout
    ended = clone.dvc("repro")
    assert ran(ended.stdout) == []
    assert "Data and pipelines are up to date." in ended.stdout
    assert (clone.folder / "models").is_dir()
