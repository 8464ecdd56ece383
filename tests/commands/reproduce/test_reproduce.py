"""Runs are reproduced from their commit and artifacts, and compared."""

import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.commands.reproduce import clone, reproduce
from pipeline.commands.reproduce.reproduce import ReproduceRequest
from pipeline.commands.reproduce.verdict import ReproducedStage, Reproduction, compare_with_run
from pipeline.core import project
from pipeline.core.errors import PipelineError
from pipeline.experiments import dvc
from pipeline.experiments.run_lookup import find_run
from pipeline.params import Params
from pipeline.tracking import provenance
from tests.builders.repositories import CommitResult, git, log_run

SAME = ReproducedStage("features", True, ["data/features"], [])
DIFFERENT = ReproducedStage("train", True, [], ["models"])


@pytest.mark.parametrize(
    ("stages", "now", "start"),
    [
        ([SAME], 0.9, "identical: all 1 outputs have the same bytes"),
        ([SAME, DIFFERENT], 0.9, "equal within 0.01: accuracy 0.9000 then and 0.9000 now"),
        ([SAME, DIFFERENT], 0.909, "equal within 0.01: "),
        ([SAME, DIFFERENT], 0.8, "different: accuracy 0.9000 then and 0.8000 now"),
    ],
)
def test_the_verdict_names_the_first_stage_that_differs(
    stages: list[ReproducedStage], now: float, start: str
) -> None:
    verdict = Reproduction("a" * 32, stages, {"accuracy": (0.9, now)}, 0.01).verdict()
    assert verdict.startswith(start)
    if DIFFERENT in stages:
        assert verdict.endswith("the first stage that differs is train (models)")


def test_other_bytes_without_metrics_are_different() -> None:
    reproduction = Reproduction("a" * 32, [DIFFERENT], {}, 0.01)
    assert not reproduction.is_equal
    assert reproduction.verdict().startswith("different: no metrics to compare")


def test_a_run_is_identified_by_the_start_of_its_id_or_its_name(
    commit: CommitResult, params: Params
) -> None:
    commit("one")
    run = log_run(params, "one")
    assert find_run(run[:6]).info.run_id == run
    named = log_run(params, "one")
    MlflowClient().update_run(named, name="bold-aunt")
    assert find_run("bold-aunt").info.run_id == named
    assert find_run(run[:6].upper()).info.run_id == run
    for name, sentence in (
        ("", "too short"),
        ("xyz", "too short"),
        ("xyzw", "no training run is called xyzw"),
    ):
        with pytest.raises(PipelineError, match=sentence):
            find_run(name)


def test_a_missing_commit_is_reported(commit: CommitResult, params: Params, world: Path) -> None:
    commit("one")
    run = find_run(log_run(params, "gone", env__host="far-away"))
    with pytest.raises(PipelineError, match=r"commit c0ffee .* is not here: .*far-away"):
        reproduce.reproduce(run, world / ".cache/again", ReproduceRequest())


def test_outputs_are_compared_by_digest(
    commit: CommitResult, params: Params, tmp_path: Path
) -> None:
    commit("one")
    run = find_run(log_run(params, "one", data__split="5" * 32))
    folder = tmp_path / "again"
    (folder / "data").mkdir(parents=True)
    (folder / "reports/test").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "data/split.csv").touch()
    (folder / "dvc.lock").write_text((tmp_path / "dvc.lock").read_text().replace("one", "two"))
    (folder / "dvc.yaml").write_text('{"stages": {"split": {}, "train": {}}}')
    (folder / "reports/metrics.json").write_text('{"accuracy": 0.5, "loss": 1}')
    reproduction = compare_with_run(run, run.data.tags, folder, ["train"], 0.01)
    assert reproduction.stages == [
        ReproducedStage("split", False, ["data/split.csv"], []),
        ReproducedStage("train", True, [], ["models"]),
    ]
    assert not reproduction.is_identical
    assert not reproduction.without_digest
    digests = {provenance.digest_tag("models"): "two"}
    reproduction = compare_with_run(run, digests, folder, ["train"], 0.01)
    assert reproduction.is_identical
    assert reproduction.without_digest == ["data/split.csv"]


def test_outputs_without_a_digest_are_listed() -> None:
    reproduction = Reproduction("r", [SAME], {"loss": (1, 1)}, 0.01, ["reports/test"])
    assert reproduction.verdict().endswith("; the run has no digest of reports/test")


def test_an_untracked_source_inside_the_project_is_linked(
    commit: CommitResult, world: Path
) -> None:
    revision = commit("one")
    (world / "photos").mkdir()
    folder = world / ".cache/clone"
    git("clone", "-q", "--shared", ".", str(folder))
    clone.link_source(folder, "photos")
    assert (folder / "photos").resolve() == world / "photos"
    clone.link_source(folder, "absent")
    clone.link_source(folder, str(world / "photos"))
    (world.parent / f"{world.name}-photos").mkdir()
    clone.link_source(folder, f"../{world.name}-photos")
    assert not (folder.parent / f"{world.name}-photos").exists()
    assert sorted(path.name for path in folder.iterdir() if path.is_symlink()) == ["photos"]
    assert git("-C", str(folder), "rev-parse", "HEAD") == revision


def test_a_temporary_folder_exists_as_long_as_its_process(world: Path) -> None:
    parent = world / ".cache/reproduce"
    with clone.temporary_folder(keep=False) as first:
        (parent / "dead").mkdir()
        (parent / "dead.lock").touch()
        with clone.temporary_folder(keep=True) as second:
            assert sorted(parent.glob("*")) == sorted(
                [first, first.with_suffix(".lock"), second, second.with_suffix(".lock")]
            )
    assert list(parent.iterdir()) == [second]


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        (0, ["computing train"]),
        (1, ["computing train", "Running stage 'train':", "> python", "warning: train"]),
    ],
)
def test_the_output_of_dvc_is_printed_if_it_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    code: int,
    printed: list[str],
) -> None:
    program = f"""
import sys
print("Running stage 'train':", flush=True)
print("> python", flush=True)
print("warning: train", file=sys.stderr)
sys.exit({code})
"""
    monkeypatch.setattr(dvc, "command", lambda *_: [sys.executable, "-c", program])
    if code:
        with pytest.raises(PipelineError, match=r"dvc repro --pull failed in .*: see above"):
            clone.run(tmp_path, "repro", "--pull")
    else:
        assert clone.run(tmp_path, "repro", "--pull") == ["train"]
    output = capfd.readouterr()
    assert (output.out, output.err.splitlines()) == ("", printed)


def test_a_run_without_a_model_has_nothing_to_compare(
    commit: CommitResult, params: Params, world: Path
) -> None:
    commit("one")
    run = find_run(log_run(params, "", status="KILLED"))
    with pytest.raises(PipelineError, match="ended before it had a model"):
        reproduce.reproduce(run, world / ".cache/again", ReproduceRequest())


def test_code_from_the_server_runs_only_if_allowed(
    commit: CommitResult, params: Params, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = commit("one")
    run = find_run(log_run(params, "lost", git__commit=revision, git__changed="yes"))
    texts = {provenance.PARAMS: "{}", provenance.LOCK: "{}", provenance.CHANGES: "one\ntwo\n"}
    monkeypatch.setattr(reproduce, "_fetch", lambda _, name: texts[name])
    with pytest.raises(PipelineError, match=r"2 lines of changes .*--with-changes"):
        reproduce.reproduce(run, world / ".cache/again", ReproduceRequest())
    assert not (world / ".cache/again").exists()


def test_a_command_refuses_to_work_on_another_project(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.check()
    (world / "elsewhere").mkdir()
    monkeypatch.chdir(world / "elsewhere")
    with pytest.raises(PipelineError, match="this is not the project's folder"):
        project.check()
