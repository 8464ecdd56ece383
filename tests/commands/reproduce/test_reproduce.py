"""What is said of a run that was made again."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.commands.reproduce import clone, reproduce
from pipeline.commands.reproduce.reproduce import ReproduceRequest, Reproduction, Stage
from pipeline.core import project
from pipeline.core.errors import PipelineError
from pipeline.params import Params
from pipeline.tracking import provenance
from tests.builders.repositories import CommitResult, git, log_run

SAME = Stage("features", True, ["data/features"], [])
OTHER = Stage("train", True, [], ["models"])


@pytest.mark.parametrize(
    ("stages", "now", "start"),
    [
        ([SAME], 0.9, "identical: all 1 outputs have the same bytes"),
        ([SAME, OTHER], 0.9, "equal within 0.01: accuracy 0.9000 then and 0.9000 now"),
        ([SAME, OTHER], 0.909, "equal within 0.01: "),
        ([SAME, OTHER], 0.8, "different: accuracy 0.9000 then and 0.8000 now"),
    ],
)
def test_the_verdict_names_the_first_stage_that_differs(
    stages: list[Stage], now: float, start: str
) -> None:
    found = Reproduction("a" * 32, stages, {"accuracy": (0.9, now)}, 0.01)
    assert found.verdict().startswith(start)
    if OTHER in stages:
        assert found.verdict().endswith("the first stage that differs is train (models)")


def test_other_bytes_without_figures_are_different() -> None:
    found = Reproduction("a" * 32, [OTHER], {}, 0.01)
    assert not found.equal
    assert found.verdict().startswith("different: it has no figures")


def test_a_run_is_found_by_the_beginning_of_its_id(commit: CommitResult, params: Params) -> None:
    commit("one")
    run = log_run(params, "one")
    assert reproduce.find(run[:6]).info.run_id == run
    named = log_run(params, "one")
    MlflowClient().update_run(named, name="bold-aunt")
    assert reproduce.find("bold-aunt").info.run_id == named
    assert reproduce.find(run[:6].upper()).info.run_id == run
    for name, sentence in (
        ("", "too short"),
        ("xyz", "too short"),
        ("xyzw", "no training is xyzw"),
    ):
        with pytest.raises(PipelineError, match=sentence):
            reproduce.find(name)


def test_a_commit_that_is_not_here_is_told(
    commit: CommitResult, params: Params, world: Path
) -> None:
    commit("one")
    run = reproduce.find(log_run(params, "gone", env__host="far-away"))
    with pytest.raises(PipelineError, match=r"commit c0ffee .* is not here: .*far-away"):
        reproduce.reproduce(run, world / ".cache/again", ReproduceRequest())


def test_what_differs_is_told_by_output(
    commit: CommitResult, params: Params, tmp_path: Path
) -> None:
    commit("one")
    run = reproduce.find(log_run(params, "one", data__split="5" * 32))
    folder = tmp_path / "again"
    (folder / "data").mkdir(parents=True)
    (folder / "reports/test").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "data/split.csv").touch()
    (folder / "dvc.lock").write_text((tmp_path / "dvc.lock").read_text().replace("one", "two"))
    (folder / "dvc.yaml").write_text('{"stages": {"split": {}, "train": {}}}')
    (folder / "reports/metrics.json").write_text('{"accuracy": 0.5, "loss": 1}')
    found = reproduce.compared(run, run.data.tags, folder, ["train"], 0.01)
    assert found.stages == [
        Stage("split", False, ["data/split.csv"], []),
        Stage("train", True, [], ["models"]),
    ]
    assert not found.identical
    assert not found.unknown
    known = {provenance.digest_tag("models"): "two"}
    found = reproduce.compared(run, known, folder, ["train"], 0.01)
    assert found.identical
    assert found.unknown == ["data/split.csv"]


def test_what_the_run_has_no_digest_of_is_told() -> None:
    found = Reproduction("r", [SAME], {"loss": (1, 1)}, 0.01, ["reports/test"])
    assert found.verdict().endswith("; of reports/test it has no digest")


def test_a_source_that_git_does_not_know_is_lent(commit: CommitResult, world: Path) -> None:
    revision = commit("one")
    (world / "photos").mkdir()
    folder = world / ".cache/clone"
    git("clone", "-q", "--shared", ".", str(folder))
    clone.lend(folder, "photos")
    assert (folder / "photos").resolve() == world / "photos"
    clone.lend(folder, "absent")
    clone.lend(folder, str(world / "photos"))
    (world.parent / f"{world.name}-photos").mkdir()
    clone.lend(folder, f"../{world.name}-photos")
    assert not (folder.parent / f"{world.name}-photos").exists()
    assert sorted(path.name for path in folder.iterdir() if path.is_symlink()) == ["photos"]
    assert git("-C", str(folder), "rev-parse", "HEAD") == revision


def test_a_place_lasts_as_long_as_its_process(world: Path) -> None:
    parent = world / ".cache/reproduce"
    with clone.place(keep=False) as mine:
        (parent / "dead").mkdir()
        (parent / "dead.lock").touch()
        with clone.place(keep=True) as kept:
            assert sorted(parent.glob("*")) == sorted(
                [mine, mine.with_suffix(".lock"), kept, kept.with_suffix(".lock")]
            )
    assert list(parent.iterdir()) == [kept]


def test_a_run_without_a_model_has_nothing_to_compare(
    commit: CommitResult, params: Params, world: Path
) -> None:
    commit("one")
    run = reproduce.find(log_run(params, "", status="KILLED"))
    with pytest.raises(PipelineError, match="ended before it had a model"):
        reproduce.reproduce(run, world / ".cache/again", ReproduceRequest())


def test_code_of_the_server_runs_only_if_somebody_allows_it(
    commit: CommitResult, params: Params, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = commit("one")
    run = reproduce.find(log_run(params, "lost", git__commit=revision, git__changed="yes"))
    texts = {provenance.PARAMS: "{}", provenance.LOCK: "{}", provenance.CHANGES: "one\ntwo\n"}
    monkeypatch.setattr(reproduce, "_text", lambda _, name: texts[name])
    with pytest.raises(PipelineError, match=r"2 lines of changes .*--with-changes"):
        reproduce.reproduce(run, world / ".cache/again", ReproduceRequest())
    assert not (world / ".cache/again").exists()


def test_another_project_than_the_one_of_the_folder_is_left_alone(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.check()
    (world / "elsewhere").mkdir()
    monkeypatch.chdir(world / "elsewhere")
    with pytest.raises(PipelineError, match="this is not the project's folder"):
        project.check()
