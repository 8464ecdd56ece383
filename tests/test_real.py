"""README's claims, on real photographs: PIPELINE_TEST_PHOTOS names a folder with the archives."""

import os
from pathlib import Path

import pytest
from test_pipeline import Project

PHOTOS = Path(os.environ.get("PIPELINE_TEST_PHOTOS", ""))


@pytest.mark.skipif(
    not (PHOTOS / "hymenoptera_data.zip").is_file(),
    reason="PIPELINE_TEST_PHOTOS names no folder with hymenoptera_data.zip",
)
def test_ants_and_bees_beat_the_tutorial(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", small=False)
    done = project.dvc(
        "exp", "run", "-S", "dataset.name=hymenoptera",
        "-S", f"dataset.source={(PHOTOS / 'hymenoptera_data.zip').resolve()}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    found = project.metrics()
    assert found["n"] == 153
    assert found["accuracy"] >= 0.95  # the tutorial: 0.9216
