"""A run made by the code of an old commit still loads, predicts, and can be reproduced."""

import subprocess
from pathlib import Path

import pytest

from tests import ROOT
from tests.builders import old_run
from tests.builders.old_run import COMMIT, OldRun
from tests.project import Project


@pytest.fixture
def run(tmp_path: Path) -> OldRun:
    (tmp_path / "old-run").mkdir()
    return old_run.unpack(tmp_path / "old-run")


def test_mlflow_loads_an_old_model_and_predicts_the_same(run: OldRun) -> None:
    expected = run.facts["prediction"]
    prediction = old_run.predict(run)
    assert (prediction["label"], prediction["problem"]) == (expected["label"], None)
    # Another processor rounds differently.
    assert prediction["probability"] == pytest.approx(expected["probability"], abs=1e-3)


def test_an_old_run_is_reproduced(run: OldRun, tmp_path: Path) -> None:
    has_commit = ["git", "cat-file", "-e", f"{COMMIT}^{{commit}}"]
    if subprocess.run(has_commit, cwd=ROOT, check=False, capture_output=True).returncode:
        pytest.skip(f"NOT TESTED: {COMMIT[:7]} is not in this clone; run `git fetch --unshallow`")
    project = Project(tmp_path / "project", small=False)
    project.git("fetch", "-q", str(ROOT), COMMIT)
    run_id = run.log(project.folder)
    result = project.python("-m", "pipeline", "reproduce", run_id)
    assert result.returncode == 0, result.stdout
    verdict = result.stdout.splitlines()[-1]
    assert verdict.startswith(("identical: all ", "equal within 0.01: ")), result.stdout
    (recorded,) = project.runs()
    assert verdict in recorded.data.tags["reproduced"]
