"""Data, cache and results on their way from one machine to another, with the whole pipeline."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import Project, ran

pytestmark = pytest.mark.xdist_group("remote")
Done = subprocess.CompletedProcess[str]
NOTHING = "ci: nothing to do: every stage is up to date"


def ci(project: Project, *words: str) -> Done:
    return project.run(sys.executable, "-m", "pipeline", "ci", *words, GITHUB_STEP_SUMMARY="")


@pytest.fixture(scope="module")
def project(first_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run once; it is pushed to a remote that was empty."""
    made = first_run.copied(tmp_path_factory.mktemp("remote") / "project")
    store = tmp_path_factory.mktemp("store")
    assert made.dvc("remote", "add", "-d", "store", str(store)).returncode == 0
    made.git("commit", "-q", "-a", "-m", "remote")
    done = ci(made, "--against", "main~2")
    assert done.returncode == 0, done.stdout
    assert NOTHING in done.stdout
    assert "ci: pulled from store, pushed to it" in done.stdout
    assert "Not compared with main~2 (" in done.stdout  # which has no result yet
    return made


def test_what_is_pushed_is_pulled_elsewhere_and_nothing_runs(
    project: Project, tmp_path: Path
) -> None:
    clone = Project.cloned(project, tmp_path / "clone")
    assert clone.dvc("pull").returncode == 0
    done = clone.dvc("repro")
    assert ran(done.stdout) == []
    assert "Data and pipelines are up to date." in done.stdout
    assert clone.dvc("status").stdout.strip() == "Data and pipelines are up to date."
    assert (clone.folder / "reports/report.html").exists()


def test_a_second_run_does_no_work_and_says_so(project: Project) -> None:
    done = ci(project)
    assert done.returncode == 0, done.stdout
    assert NOTHING in done.stdout
    assert ran(done.stdout) == []
    assert "No significant difference between main and this run" in done.stdout
    assert project.git("status", "--porcelain") == ""


def test_what_one_machine_ran_another_restores(project: Project, tmp_path: Path) -> None:
    words = ("-S", "evaluate.samples=5", "--summary", "summary.md")
    one = Project.cloned(project, tmp_path / "one")
    done = ci(one, *words)
    assert done.returncode == 0, done.stdout
    assert "ci: ran evaluate; 6 up to date" in done.stdout
    summary = (one.folder / "summary.md").read_text()
    assert "| evaluate.samples | 20 | 5 |" in summary
    assert summary.count("```mermaid") == 2
    assert f"| test images | {one.metrics()['n']} |" in summary

    other = Project.cloned(project, tmp_path / "other")
    done = ci(other, *words)
    assert done.returncode == 0, done.stdout
    assert "ci: ran nothing; restored evaluate; 6 up to date" in done.stdout
    assert other.metrics() == one.metrics()
    assert NOTHING in ci(other, *words).stdout
