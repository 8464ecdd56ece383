"""Data, cache and results pass from one machine to another through a remote."""

import subprocess
from pathlib import Path

import pytest

from tests.project import Project, ran

Process = subprocess.CompletedProcess[str]
NOTHING = "ci: nothing to do: every stage is up to date"


def ci(project: Project, *words: str) -> Process:
    return project.python("-m", "pipeline", "ci", *words, GITHUB_STEP_SUMMARY="")


@pytest.fixture(scope="module")
def project(first_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run once; it is pushed to a remote that was empty."""
    new_project = first_run.copied(tmp_path_factory.mktemp("remote") / "project")
    store = tmp_path_factory.mktemp("store")
    assert new_project.dvc("remote", "add", "-d", "store", str(store)).returncode == 0
    new_project.git("commit", "-q", "-a", "-m", "remote")
    process = ci(new_project, "--against", "main~2")
    assert process.returncode == 0, process.stdout
    assert NOTHING in process.stdout
    assert "ci: pulled from store, pushed to it" in process.stdout
    assert "Not compared with main~2 (" in process.stdout  # which has no result yet
    return new_project


def test_a_clone_pulls_the_outputs_and_runs_no_stage(project: Project, tmp_path: Path) -> None:
    clone = Project.cloned(project, tmp_path / "clone")
    assert clone.dvc("pull").returncode == 0
    process = clone.dvc("repro")
    assert ran(process.stdout) == []
    assert "Data and pipelines are up to date." in process.stdout
    assert clone.dvc("status").stdout.strip() == "Data and pipelines are up to date."
    assert (clone.folder / "reports/report.html").exists()


def test_a_second_run_prints_that_there_is_nothing_to_do(project: Project) -> None:
    process = ci(project)
    assert process.returncode == 0, process.stdout
    assert NOTHING in process.stdout
    assert ran(process.stdout) == []
    assert "No significant difference between main and this run" in process.stdout
    assert project.git("status", "--porcelain") == ""


def test_a_stage_that_ran_on_one_machine_is_restored_on_another(
    project: Project, tmp_path: Path
) -> None:
    words = ("-S", "evaluate.samples=5", "--summary", "summary.md")
    first = Project.cloned(project, tmp_path / "one")
    process = ci(first, *words)
    assert process.returncode == 0, process.stdout
    assert "ci: ran check, evaluate; 6 up to date" in process.stdout
    summary = (first.folder / "summary.md").read_text()
    assert "| evaluate.samples | 20 | 5 |" in summary
    assert summary.count("```mermaid") == 2
    assert f"| test images | {first.metrics()['n']} |" in summary

    second = Project.cloned(project, tmp_path / "other")
    process = ci(second, *words)
    assert process.returncode == 0, process.stdout
    assert "ci: ran check; restored evaluate; 6 up to date" in process.stdout
    assert second.metrics() == first.metrics()
    assert NOTHING in ci(second, *words).stdout
