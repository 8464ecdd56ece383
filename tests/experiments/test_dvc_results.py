"""What DVC holds, told from git alone."""

import json
from pathlib import Path

import pytest

from pipeline.experiments import dvc_results
from pipeline.params import Params
from tests.builders.params import override
from tests.builders.repositories import CommitResult, add_experiment, git, result_lock


def test_branches_tags_and_experiments_each_hold_a_result(
    commit: CommitResult, params: Params
) -> None:
    first = commit("one", 0.9)
    git("tag", "v1")
    second = commit("two", 0.8)
    git("checkout", "-q", "--detach")
    other = override(params, train__lr=0.5)
    third = commit("three", 0.7, other)
    add_experiment("bold-aunt", second, third)
    git("update-ref", "refs/exps/exec/EXEC_HEAD", third)
    git("checkout", "-q", "main")
    found = {each.label: each for each in dvc_results.dvc_results()}
    assert set(found) == {"v1", "main", "bold-aunt"}
    assert (found["v1"].commit, found["v1"].models, found["v1"].accuracy) == (first, "one", 0.9)
    aunt = found["bold-aunt"]
    assert (aunt.experiment, aunt.commit, aunt.revision) == ("bold-aunt", second, third)
    assert aunt.values == other.flat()
    assert aunt.test == "test-of-three"
    assert found["main"].experiment == ""


def test_the_workspace_holds_what_is_not_committed(
    commit: CommitResult, params: Params, world: Path
) -> None:
    commit("one")
    assert [each.label for each in dvc_results.dvc_results()] == ["main"]
    (world / "dvc.lock").write_text(json.dumps(result_lock(params, "two")))
    assert {each.label for each in dvc_results.dvc_results()} == {"main", "workspace"}


def test_all_commits_are_asked_on_demand(commit: CommitResult) -> None:
    first = commit("one")
    commit("two")
    assert [each.label for each in dvc_results.dvc_results()] == ["main"]
    assert {each.label for each in dvc_results.dvc_results(everything=True)} == {"main", first[:7]}


def test_a_model_is_found_in_the_first_commit_that_has_it(commit: CommitResult) -> None:
    first = commit("a" * 32)
    commit("b" * 32)
    assert [found.revision for found in dvc_results.pinned("a" * 32)] == [first]
    assert not any(dvc_results.pinned("c" * 32))


@pytest.mark.parametrize("what", ["other model tested", "no params", "not YAML"])
def test_what_is_no_whole_result_is_left_out(
    commit: CommitResult, params: Params, world: Path, what: str
) -> None:
    commit("one")
    lock = result_lock(params, "two", "one" if what == "other model tested" else None)
    for stage in lock["stages"].values():
        if what == "no params":
            stage.pop("params", None)
    text = "stages: [" if what == "not YAML" else json.dumps(lock)
    (world / "dvc.lock").write_text(text)
    git("commit", "-q", "-a", "-m", "odd")
    assert dvc_results.dvc_results() == []


def test_a_result_of_another_versions_params_is_one(
    commit: CommitResult, params: Params, world: Path
) -> None:
    commit("one")
    lock = result_lock(params, "two")
    del lock["stages"]["train"]["params"]["params.yaml"]["train"]["lr"]
    lock["stages"]["train"]["params"]["params.yaml"]["train"]["of_old"] = 1
    lock["stages"]["evaluate"]["params"] = lock["stages"]["train"]["params"]
    (world / "dvc.lock").write_text(json.dumps(lock))
    git("commit", "-q", "-a", "-m", "old")
    (found,) = dvc_results.dvc_results()
    expected = {key: value for key, value in params.flat().items() if key != "train.lr"}
    assert found.values == expected | {"train.of_old": 1}


@pytest.mark.parametrize(
    "text",
    [
        "stages: {x: 2001-13-45}",
        "stages: " + 2000 * "[",
        "stages: {1: {}, a: {}}",
        "stages: 3",
        "\0",
    ],
)
def test_a_lock_of_a_stranger_is_no_result(commit: CommitResult, world: Path, text: str) -> None:
    commit("one")
    (world / "dvc.lock").write_text(text)
    git("commit", "-q", "-a", "-m", "odd")
    assert dvc_results.dvc_results() == []


def test_what_a_server_calls_a_model_is_not_asked_of_git(commit: CommitResult) -> None:
    commit("one")
    for models in ("", "\0", "--all", "one"):
        assert not any(dvc_results.pinned(models))


def test_the_params_of_all_stages_are_those_of_the_result(params: Params) -> None:
    assert dvc_results.sections(result_lock(params, "one")["stages"]) == params.model_dump()


def test_a_lock_of_which_a_part_ran_again_holds_no_result(
    commit: CommitResult, params: Params, world: Path
) -> None:
    commit("one")
    lock = result_lock(params, "two")
    lock["stages"]["train"]["deps"] = [{"path": "data/split.csv", "md5": "6" * 32}]
    (world / "dvc.lock").write_text(json.dumps(lock))
    git("commit", "-q", "-a", "-m", "split again")
    assert dvc_results.dvc_results() == []


def test_results_of_other_params_are_told_apart(commit: CommitResult, params: Params) -> None:
    commit("one")
    git("checkout", "-q", "-b", "side")
    commit("one", params=override(params, evaluate__samples=7))
    assert {each.label for each in dvc_results.dvc_results()} == {"main", "side"}
