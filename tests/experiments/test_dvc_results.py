"""Results in DVC are read from git alone."""

import json
from pathlib import Path

import pytest

from pipeline.experiments import dvc_results
from pipeline.params import Params
from tests.builders.params import override
from tests.builders.repositories import CommitResult, add_experiment, git, result_lock


def labels(all_commits: bool = False) -> set[str]:
    results = [result.label for result in dvc_results.dvc_results(all_commits)]
    assert len(results) == len(set(results))
    return set(results)


def test_branches_tags_and_experiments_have_results(commit: CommitResult, params: Params) -> None:
    first = commit("one", 0.9)
    git("tag", "v1")
    second = commit("two", 0.8)
    git("checkout", "-q", "--detach")
    other = override(params, train__lr=0.5)
    third = commit("three", 0.7, other)
    add_experiment("bold-aunt", second, third)
    git("update-ref", "refs/exps/exec/EXEC_HEAD", third)
    git("checkout", "-q", "main")
    results = {result.label: result for result in dvc_results.dvc_results()}
    assert set(results) == {"v1", "main", "bold-aunt"}
    tag = results["v1"]
    assert (tag.commit, tag.models_md5, tag.accuracy) == (first, "one", 0.9)
    experiment = results["bold-aunt"]
    assert experiment.experiment == "bold-aunt"
    assert (experiment.commit, experiment.revision) == (second, third)
    assert experiment.params == other.flat()
    assert experiment.test_md5 == "test-of-three"
    assert results["main"].experiment == ""


def test_a_cut_lock_in_the_workspace_is_reported(
    commit: CommitResult, capsys: pytest.CaptureFixture[str]
) -> None:
    commit("a")
    lock = Path("dvc.lock")
    lock.write_text(lock.read_text()[:40])
    assert labels() == {"main"}
    assert "warning: dvc.lock is not YAML" in capsys.readouterr().err


def test_the_workspace_has_an_uncommitted_result(
    commit: CommitResult, params: Params, world: Path
) -> None:
    commit("one")
    assert labels() == {"main"}
    (world / "dvc.lock").write_text(json.dumps(result_lock(params, "two")))
    assert labels() == {"main", "workspace"}


def test_all_commits_are_searched_on_request(commit: CommitResult) -> None:
    first = commit("one")
    commit("two")
    assert labels() == {"main"}
    assert labels(all_commits=True) == {"main", first[:7]}


def test_the_first_commit_with_a_model_has_its_result(commit: CommitResult) -> None:
    first = commit("a" * 32)
    commit("b" * 32)
    results = dvc_results.results_with_model("a" * 32)
    assert [result.revision for result in results] == [first]
    assert not any(dvc_results.results_with_model("c" * 32))


@pytest.mark.parametrize("defect", ["other model tested", "no params", "not YAML"])
def test_an_incomplete_result_is_left_out(
    commit: CommitResult, params: Params, world: Path, defect: str
) -> None:
    commit("one")
    lock = result_lock(params, "two", "one" if defect == "other model tested" else None)
    for stage in lock["stages"].values():
        if defect == "no params":
            stage.pop("params", None)
    text = "stages: [" if defect == "not YAML" else json.dumps(lock)
    (world / "dvc.lock").write_text(text)
    git("commit", "-q", "-a", "-m", "odd")
    assert dvc_results.dvc_results() == []


def test_a_result_may_have_params_of_another_version(
    commit: CommitResult, params: Params, world: Path
) -> None:
    commit("one")
    lock = result_lock(params, "two")
    del lock["stages"]["train"]["params"]["params.yaml"]["train"]["lr"]
    lock["stages"]["train"]["params"]["params.yaml"]["train"]["of_old"] = 1
    lock["stages"]["evaluate"]["params"] = lock["stages"]["train"]["params"]
    (world / "dvc.lock").write_text(json.dumps(lock))
    (world / "params.yaml").write_text(json.dumps(lock["stages"]["train"]["params"]["params.yaml"]))
    git("commit", "-q", "-a", "-m", "old")
    (result,) = dvc_results.dvc_results()
    expected = {key: value for key, value in params.flat().items() if key != "train.lr"}
    assert result.params == expected | {"train.of_old": 1}


@pytest.mark.parametrize(
    "text",
    [
        "stages: {x: 2001-13-45}",
        "stages: " + 1000 * "[",
        "stages: {1: {}, a: {}}",
        "stages: 3",
        "\0",
    ],
)
def test_an_invalid_lock_has_no_result(commit: CommitResult, world: Path, text: str) -> None:
    commit("one")
    (world / "dvc.lock").write_text(text)
    git("commit", "-q", "-a", "-m", "odd")
    assert dvc_results.dvc_results() == []


def test_a_digest_that_is_none_is_not_passed_to_git(commit: CommitResult) -> None:
    commit("one")
    for models in ("", "\0", "--all", "one"):
        assert not any(dvc_results.results_with_model(models))


def test_the_params_of_a_lock_are_those_of_all_stages(params: Params) -> None:
    assert dvc_results.locked_params(result_lock(params, "one")["stages"]) == params.model_dump()


def test_a_lock_has_no_result_if_only_some_stages_ran_again(
    commit: CommitResult, params: Params, world: Path
) -> None:
    commit("one")
    lock = result_lock(params, "two")
    lock["stages"]["train"]["deps"] = [{"path": "data/split.csv", "md5": "6" * 32}]
    (world / "dvc.lock").write_text(json.dumps(lock))
    git("commit", "-q", "-a", "-m", "split again")
    assert dvc_results.dvc_results() == []


def test_the_same_model_with_other_params_is_another_result(
    commit: CommitResult, params: Params
) -> None:
    commit("one")
    git("checkout", "-q", "-b", "side")
    commit("one", params=override(params, evaluate__samples=7))
    assert labels() == {"main", "side"}
