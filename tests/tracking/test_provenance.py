"""Where a model comes from, in git repositories made for it."""

import subprocess
from pathlib import Path

import pytest

from pipeline.tracking import provenance
from tests.builders.repositories import git


@pytest.fixture
def repository(world: Path) -> Path:
    (world / "pipeline").mkdir()
    (world / "pipeline/code.py").write_text("x = 1\n")
    (world / "params.yaml").write_text("dataset: {name: pets}\n")
    (world / "dvc.lock").write_text(
        "stages:\n  split:\n    outs:\n    - path: data/split.csv\n      md5: abc\n"
        "  train:\n    outs:\n    - path: models\n      md5: def\n"
    )
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "start")
    return world


def test_data_digests_are_those_of_dvc_lock(repository: Path) -> None:
    tags = provenance.source_tags()
    assert tags["data.split"] == "abc"
    assert "result.models" not in tags
    assert tags[provenance.COMMIT] == git("rev-parse", "HEAD").strip()
    assert tags[provenance.EXPERIMENT] == tags[provenance.BASELINE] == ""


def test_the_commit_of_an_experiment_is_its_baseline(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "tame-otter")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "c0ffee")
    tags = provenance.source_tags()
    assert (tags[provenance.EXPERIMENT], tags[provenance.COMMIT]) == ("tame-otter", "c0ffee")


def test_the_patch_restores_uncommitted_changes(repository: Path) -> None:
    assert provenance.read_patch(provenance.source_tags()[provenance.COMMIT]) == ""
    changed = "x = 'h\u00e4\u00df'\n"
    Path("pipeline/code.py").write_text(changed)
    Path("pipeline/new.py").write_text("y = 2\n")
    Path("README.md").write_text("nothing depends on this\n")
    commit = provenance.source_tags()[provenance.COMMIT]
    tags = provenance.environment_tags(commit)
    assert tags["git.changed"] == "yes"
    assert tags["git.untracked"] == "pipeline/new.py"
    files = provenance.read_files(commit)
    assert set(files) == {"params.yaml", "dvc.lock", "changes.patch"}
    git("checkout", "-q", "pipeline/code.py")
    Path("pipeline/new.py").unlink()
    subprocess.run(["git", "apply", "-"], input=files["changes.patch"], text=True, check=True)
    assert Path("pipeline/code.py").read_text() == changed
    assert Path("pipeline/new.py").read_text() == "y = 2\n"


@pytest.mark.parametrize("name", ["reject.csv", "relabel.csv"])
def test_what_people_decided_about_images_is_in_the_patch(repository: Path, name: str) -> None:
    path = Path("datasets/pets", name)
    path.parent.mkdir(parents=True)
    path.write_text("id,why\n0a1b,blurred\n")
    files = provenance.read_files(provenance.source_tags()[provenance.COMMIT])
    assert f"+++ b/{path}" in files["changes.patch"]
    assert "+0a1b,blurred" in files["changes.patch"]


def test_other_data_sets_are_not_in_the_patch(repository: Path) -> None:
    for name in ("pets", "unfinished"):
        Path("datasets", name).mkdir(parents=True)
        Path("datasets", name, "dataset.toml").write_text('kind = "digits"\n')
    commit = provenance.source_tags()[provenance.COMMIT]
    assert provenance.environment_tags(commit)["git.untracked"] == "datasets/pets/dataset.toml"
    git("add", "-A")
    git("commit", "-q", "-m", "data sets")
    for patch in (provenance.read_patch(commit), provenance.read_patch(commit, "HEAD")):
        assert patch.count("+++ b/") == 1
        assert "+++ b/datasets/pets/dataset.toml" in patch


def test_without_params_all_data_sets_are_in_the_patch(repository: Path) -> None:
    Path("params.yaml").write_text("dataset: [")
    Path("datasets").mkdir()
    Path("datasets/new.toml").touch()
    commit = provenance.source_tags()[provenance.COMMIT]
    assert provenance.environment_tags(commit)["git.untracked"] == "datasets/new.toml"


def test_a_patch_that_is_too_large_is_not_recorded_but_tagged(repository: Path) -> None:
    Path("pipeline/large.py").write_text("x = 1\n" * 200_000)
    commit = provenance.source_tags()[provenance.COMMIT]
    assert provenance.environment_tags(commit)["git.changed"] == provenance.TOO_MUCH
    assert provenance.CHANGES not in provenance.read_files(commit)


def test_without_a_repository_there_is_no_commit(world: Path) -> None:
    (world / ".git").write_text("gitdir: nowhere\n")
    assert provenance.source_tags()[provenance.COMMIT] == ""
    assert provenance.read_files("") == {}


@pytest.mark.parametrize(
    ("path", "tag"),
    [
        ("data/raw", "data.raw"),
        ("data/split.csv", "data.split"),
        ("models", "result.models"),
        ("reports/test", "result.test"),
        ("reports/metrics.json", "result.metrics"),
    ],
)
def test_an_output_has_a_tag(path: str, tag: str) -> None:
    assert provenance.digest_tag(path) == tag
