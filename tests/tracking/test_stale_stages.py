"""A result is of a commit only if all stages that it is made from ran with the commit's files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import dvc_lock
from pipeline.params import Params
from pipeline.tracking import stale_stages
from tests.builders.locks import STAGES, LockedRuns, write_project
from tests.builders.repositories import commit_all, git

MADE_FROM = {  # the stages that evaluate is made from, by what they are made from
    "acquire": ["filter", "split", "features", "train", "evaluate"],
    "filter": ["split", "features", "train", "evaluate"],
    "split": ["features", "train", "evaluate"],
    "describe": [],
    "features": ["train", "evaluate"],
    "train": ["evaluate"],
    "evaluate": [],
}


def with_itself(stage: str) -> list[str]:
    return [*([] if stage == "describe" else [stage]), *MADE_FROM[stage]]


@pytest.fixture
def runs(world: Path, params: Params) -> LockedRuns:
    """A project in which all stages ran, and were committed."""
    (world / ".gitignore").write_text("/data\n/models\n")
    write_project(params)
    runs = LockedRuns()
    runs.run(*STAGES)
    commit_all("run")
    return runs


def stale() -> list[str]:
    """The stale stages, which are the same before and after a commit."""
    lock = dvc_lock.read()
    workspace = stale_stages.stale_stages(lock, stale_stages.state_of_workspace())
    git("add", "-A")
    git("commit", "-q", "--allow-empty", "-m", "as it is")
    commit = stale_stages.state_of_commit("HEAD")
    assert stale_stages.stale_stages(lock, commit) == workspace
    return workspace


def test_after_a_whole_run_no_stage_is_stale(runs: LockedRuns) -> None:
    assert stale() == []
    assert len(runs.stages) == len(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_ran_alone_leaves_the_later_ones_behind(runs: LockedRuns, stage: str) -> None:
    """`dvc exp run STAGE` with another result; with the same result, nothing is behind."""
    runs.run(stage)
    assert stale() == []
    runs.run(stage, version="2")
    assert stale() == MADE_FROM[stage]


@pytest.mark.parametrize("stage", STAGES)
def test_code_that_changed_leaves_its_stage_and_the_later_ones_behind(
    runs: LockedRuns, stage: str
) -> None:
    code = Path(f"pipeline/{stage}/code.py")
    code.write_text("changed")
    assert stale() == with_itself(stage)
    code.unlink()
    assert stale() == with_itself(stage)
    runs.run(*STAGES)
    (code.parent / "new.py").touch()
    assert stale() == with_itself(stage)


@pytest.mark.parametrize(
    ("key", "first"),
    [
        (("acquire", "workers"), "acquire"),
        (("split", "seed"), "split"),
        (("train", "lr"), "train"),
        (("model", "backbone"), "features"),
        (("evaluate", "samples"), "evaluate"),
        (("device", "compile"), "features"),
    ],
)
def test_params_that_changed_leave_their_stages_behind(
    runs: LockedRuns, key: tuple[str, str], first: str
) -> None:
    values = json.loads(Path("params.yaml").read_text())
    values[key[0]][key[1]] = 77
    Path("params.yaml").write_text(json.dumps(values))
    assert stale() == with_itself(first)


def test_comments_and_spellings_of_params_change_nothing(runs: LockedRuns) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(f"# a comment\n{text.replace('0.001', '1e-3')}")
    assert stale() == []


def merge_train_of_others(stages: dict[str, Any]) -> None:
    stages["train"]["outs"][0]["md5"] = "0" * 32


def lose_filter(stages: dict[str, Any]) -> None:
    del stages["filter"]


@pytest.mark.parametrize(
    ("merge", "expected"),
    [
        (merge_train_of_others, ["evaluate"]),
        (lose_filter, ["split", "features", "train", "evaluate"]),
    ],
)
def test_a_lock_merged_by_hand_has_stages_of_several_states(
    runs: LockedRuns, merge: Callable[[dict[str, Any]], None], expected: list[str]
) -> None:
    merge(runs.stages)
    Path("dvc.lock").write_text(json.dumps({"stages": runs.stages}))
    assert stale() == expected


def test_metrics_that_evaluate_did_not_write_leave_it_behind(runs: LockedRuns) -> None:
    Path("reports/metrics.json").write_text('{"accuracy": 1.0}')
    assert stale() == ["evaluate"]


def test_another_data_set_of_that_name_leaves_all_stages_behind(runs: LockedRuns) -> None:
    Path("datasets/sample/dataset.toml").write_text("changed")
    assert stale() == with_itself("acquire")
    runs.run(*STAGES)
    Path("datasets/other").mkdir()
    Path("datasets/other/dataset.toml").touch()
    assert stale() == []


def test_a_lock_that_goes_in_a_circle_is_followed_once(runs: LockedRuns) -> None:
    runs.stages["acquire"]["deps"].append({"path": "models", "md5": "0" * 32})
    Path("dvc.lock").write_text(json.dumps({"stages": runs.stages}))
    assert stale() == with_itself("acquire")


def test_without_git_the_code_is_unknown(runs: LockedRuns, world: Path) -> None:
    (world / ".git").rename("elsewhere")
    state = stale_stages.state_of_workspace()
    assert stale_stages.stale_stages(dvc_lock.read(), state) == []


def test_digests_are_those_of_dvc_for_any_bytes(runs: LockedRuns) -> None:
    folder = Path("pipeline/train")
    (folder / "lines.py").write_bytes(b"a\r\nb\r\0\xff\n")
    (folder / "empty.py").touch()
    git("add", "-A")
    git("commit", "-q", "-m", "odd bytes")
    expected = dvc_lock.digest(folder)
    for state in (stale_stages.state_of_commit("HEAD"), stale_stages.state_of_workspace()):
        assert state.digest("pipeline/train") == expected
        assert state.digest("pipeline/train/lines.py") == dvc_lock.digest(folder / "lines.py")
        assert state.digest("pipeline/none") is None
