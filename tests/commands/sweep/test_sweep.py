"""Sweeps of a small network on small pictures, in this process and in others."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from ruamel.yaml import YAML

from pipeline.commands.sweep import search_space, study, sweep
from pipeline.commands.sweep.goal import Goal
from pipeline.commands.sweep.journal import EndedTrial, Journal, TrialState
from pipeline.commands.sweep.mlflow_runs import Sweep
from pipeline.commands.sweep.summary import SweepResult
from pipeline.commands.sweep.sweep import SweepRequest
from pipeline.commands.sweep.trainer import StagePaths
from pipeline.core import atomic
from pipeline.core import history as records
from pipeline.core.errors import PipelineError
from pipeline.params import Params, with_overrides
from pipeline.stages.train import __main__ as train
from tests import ROOT
from tests.builders.models import compute_features
from tests.builders.params import NARROW_RESNET, override

INPUTS = StagePaths(Path("data/clean"), Path("data/split.csv"), Path("data/features"))
SPACE = [
    "train.lr=tag(log,interval(0.0001,0.1))",
    "head.kind=linear,mlp",
    "head.dropout=interval(0,0.5)",
    "train.seed=1,2",
]
NOWHERE = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


@pytest.fixture
def cheap(dataset: Path, params: Params) -> Params:
    """Params, and features of them."""
    chosen = override(params, **NARROW_RESNET)
    compute_features(dataset, chosen)
    return chosen


def wanted(trials: int, *overrides: str, **changed: Any) -> SweepRequest:
    usual: dict[str, Any] = {"goal": Goal.VAL_LOSS, "seed": 1, "name": "", "plots": None}
    return SweepRequest(overrides or SPACE, trials, **usual | changed)


def swept(params: Params, trials: int, *overrides: str, **changed: Any) -> SweepResult:
    return sweep.sweep(params, wanted(trials, *overrides, **changed), INPUTS)


def without_times(found: SweepResult) -> list[tuple[object, ...]]:
    return [(one.number, one.state, one.drawn, one.values, one.history) for one in found.ended]


def all_runs() -> list[Run]:
    mlflow.set_tracking_uri(f"sqlite:///{Path('mlflow.db').absolute()}")
    return list(mlflow.search_runs(search_all_experiments=True, output_format="list"))


def runs() -> tuple[Run, list[Run]]:
    """The run of the sweep, and those of its trials by number."""
    found = all_runs()
    (parent,) = [each for each in found if "mlflow.parentRunId" not in each.data.tags]
    trials = [each for each in found if each.info.run_id != parent.info.run_id]
    assert {each.data.tags["mlflow.parentRunId"] for each in trials} <= {parent.info.run_id}
    return parent, sorted(trials, key=lambda each: int(each.data.tags["sweep.trial"]))


@pytest.mark.parametrize("goal", Goal)
def test_the_command_trains_what_the_winner_was_to_the_last_bit(
    cheap: Params, goal: Goal, capsys: pytest.CaptureFixture[str]
) -> None:
    found = swept(cheap, 6, *SPACE, "head.kind=mlp", goal=goal)
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[:3] == ["dvc", "exp", "run"]
    given = dict(option.split("=") for option in words[4::2])
    chosen = with_overrides(
        cheap, {name: YAML(typ="safe", pure=True).load(value) for name, value in given.items()}
    )
    Path("params.yaml").write_text(json.dumps(chosen.model_dump()))
    train.main(
        INPUTS.clean,
        INPUTS.split_csv,
        INPUTS.features,
        Path("models"),
        Path("history.csv"),
        Path("augmented.png"),
    )
    history = [
        {name: float(value) for name, value in row.items()}
        for row in atomic.read_csv(Path("history.csv"))
    ]
    kept = min(history, key=lambda row: row["val_loss"])
    assert kept[goal.value] == found.value(found.winner)
    assert [row["val_loss"] for row in history] == [
        record.val_loss for record in found.winner.history
    ]


def test_twice_gives_the_same_and_what_is_in_params_comes_first(cheap: Params) -> None:
    one = swept(cheap, 4)
    journal().unlink()
    other = swept(cheap, 4)
    assert without_times(one) == without_times(other)
    assert one.ended[0].values == {name: cheap.flat()[name] for name in one.space.drawn}
    assert len({str(each.values) for each in one.ended}) == 4


def journal() -> Path:
    """Of the only sweep there is."""
    (path,) = Path(".cache/sweep").glob("*/trials.jsonl")
    return path


def test_more_trials_go_on_from_those_there_are_and_runs_are_not_doubled(cheap: Params) -> None:
    swept(cheap, 3)
    first = {each.info.run_id for each in runs()[1]}
    half = MlflowClient().create_run(
        runs()[0].info.experiment_id,
        tags={"mlflow.parentRunId": runs()[0].info.run_id, "sweep.trial": "3"},
    )
    MlflowClient().set_terminated(half.info.run_id, "KILLED")
    found = swept(cheap, 14)
    parent, trials = runs()
    assert [each.data.tags["sweep.trial"] for each in trials] == [str(n) for n in range(14)]
    assert first < {each.info.run_id for each in trials}
    assert half.info.run_id not in {each.info.run_id for each in trials}
    journal().unlink()
    assert without_times(swept(cheap, 14)) == without_times(found)
    assert parent.info.status == "FINISHED"


def test_mlflow_has_each_trial_below_the_sweep(cheap: Params, tmp_path: Path) -> None:
    plots = tmp_path / "plots"
    found = swept(cheap, 12, *SPACE, name="heads", plots=plots)
    parent, trials = runs()
    assert parent.info.run_name == "heads"
    assert parent.data.params["space.head.kind"] == "linear,mlp"
    assert found.command() in parent.data.tags["mlflow.note.content"]
    assert parent.data.metrics["trials.complete"] == found.counts()["complete"]
    names = {"history.png", "importance.png", "slices.png", "trials.csv"}
    listed = MlflowClient().list_artifacts(parent.info.run_id)
    assert {each.path for each in listed} == names == {path.name for path in plots.iterdir()}
    assert len(atomic.read_csv(plots / "trials.csv")) == 12
    for one, run in zip(found.ended, trials, strict=True):
        assert run.info.status == "FINISHED"
        assert run.data.tags["sweep.state"] == one.state.value
        assert run.data.params["train.lr"] == str(one.values["train.lr"])
        assert run.data.params.keys() == cheap.flat().keys()
        assert run.data.metrics["kept/val_loss"] == found.value(one)
        curve = MlflowClient().get_metric_history(run.info.run_id, "curves/val_loss")
        assert [(each.step, each.value) for each in curve] == [
            (round(record.epoch), record.val_loss) for record in one.history
        ]


def test_a_server_that_is_away_costs_one_warning_and_is_told_later(
    cheap: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as away:
        for name, value in NOWHERE.items():
            away.setenv(name, value)
        swept(cheap, 2)
    assert capsys.readouterr().err.count("warning: MLflow at http://127.0.0.1:9 fails") == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    swept(cheap, 2)
    assert len(runs()[1]) == 2


def test_a_sweep_that_a_colleague_runs_on_the_same_server_is_left_alone(cheap: Params) -> None:
    """The journal is of this machine, the server is everybody's."""
    theirs, mine = Sweep(cheap, "k" * 20, ""), Sweep(cheap, "k" * 20, "")
    spanned = search_space.parse(SPACE, cheap)
    theirs.open(spanned, Goal.VAL_LOSS, 1)
    client = MlflowClient()
    (parent,) = all_runs()
    tags = {"mlflow.parentRunId": parent.info.run_id, "sweep.trial": "0"}
    trial = client.create_run(parent.info.experiment_id, tags=tags)
    mine.open(spanned, Goal.VAL_LOSS, 1)
    mine.end("FINISHED")
    states = {run.info.run_id: run.info.status for run in all_runs()}
    assert len(states) == 3
    assert states[parent.info.run_id] == states[trial.info.run_id] == "RUNNING"
    theirs.end("FINISHED")


def test_what_is_refused_fails_its_trial_alone(cheap: Params) -> None:
    found = swept(cheap, 9, "train.warmup_epochs=0,1", "train.schedule=cosine,one-cycle")
    failed = [one for one in found.ended if one.state is TrialState.FAILED]
    assert 0 < len(failed) < 9
    assert all("one-cycle warms up by itself" in one.reason for one in failed)
    states = [each.data.tags["sweep.state"] for each in runs()[1]]
    assert states.count("failed") == len(failed)


def test_a_sweep_without_a_whole_trial_says_why(cheap: Params) -> None:
    with pytest.raises(PipelineError, match=r"^no trial trained to its end: 3 the loss is no long"):
        swept(cheap, 3, "train.lr=interval(1e30,1e35)", "train.optimizer=sgd")
    assert runs()[0].info.status == "FAILED"


def test_interrupted_it_tells_of_the_best_so_far(
    cheap: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, ended = study._trial, list[EndedTrial]()

    def interrupted(*arguments: Any) -> EndedTrial:
        if len(ended) == 2:
            raise KeyboardInterrupt
        ended.append(real(*arguments))
        return ended[-1]

    with monkeypatch.context() as stopped:
        stopped.setattr(study, "_trial", interrupted)
        with pytest.raises(KeyboardInterrupt):
            swept(cheap, 5)
    assert capsys.readouterr().out.splitlines()[-1].startswith("dvc exp run -S train.lr=")
    assert runs()[0].info.status == "KILLED"
    assert len(swept(cheap, 5).ended) == 5
    assert runs()[0].info.status == "FINISHED"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"device__devices": 2}, "device.devices=2, but trials run in one process"),
        ({"images__rotate": 20.0}, "data/features was made with other params than stand in params"),
        (
            {"split__seed": 9},
            "data/features was made with other params than stand in params.yaml "
            "now (split.seed): run `dvc repro features` first",
        ),
    ],
)
def test_features_of_other_params_are_refused(
    cheap: Params, change: dict[str, object], sentence: str
) -> None:
    ran = {"split": ["split"], "features": ["images", "model", "features", "device"]}
    stages = {
        stage: {"params": {"params.yaml": {name: cheap.model_dump()[name] for name in names}}}
        for stage, names in ran.items()
    }
    Path("dvc.lock").write_text(json.dumps({"stages": stages}))
    with pytest.raises(PipelineError) as caught:
        swept(override(cheap, **change), 1)
    assert str(caught.value).startswith(sentence)


def test_without_features_to_share_there_is_no_sweep(
    dataset: Path, params: Params, cheap: Params
) -> None:
    chosen = override(cheap, model__trainable="all")
    compute_features(dataset, chosen)
    with pytest.raises(PipelineError, match=r"no features for trials to share \(nothing is froz"):
        swept(chosen, 1)
    (dataset / "features/features.json").unlink()
    with pytest.raises(PipelineError, match=r"features.json is missing: run `dvc repro features`"):
        swept(cheap, 1)


def test_a_torn_line_is_cut_off(cheap: Params) -> None:
    found = swept(cheap, 3)
    path = journal()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 40])
    assert without_times(swept(cheap, 3)) == without_times(found)
    assert len(path.read_bytes().splitlines()) == 3


def test_one_sweep_runs_once_at_a_time(cheap: Params) -> None:
    with Journal("key"), pytest.raises(PipelineError, match="the same sweep is running already"):
        Journal("key")


def test_some_are_pruned_and_what_mattered_is_told(
    cheap: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = override(cheap, train__epochs=8)
    found = swept(longer, 30)
    assert found.counts()["pruned"] > 3
    assert {one.number for one in found.ranked} == {
        one.number for one in found.ended if len(one.history) == 8
    }
    assert "what mattered (share of the variance between complete trials): " in (
        capsys.readouterr().out
    )
    best = min(found.ranked, key=lambda one: records.best(one.history).val_loss)
    assert best.number == found.winner.number


# ---- processes ----


@pytest.fixture
def started(cheap: Params) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts the command in the working directory."""
    Path("params.yaml").write_text(json.dumps(override(cheap, train__epochs=20).model_dump()))

    def start(trials: int) -> "subprocess.Popen[str]":
        options = [word for text in SPACE for word in ("-S", text)]
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", "sweep", "-n", str(trials), *options],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def lines() -> list[dict[str, Any]]:
    """Of the journal, without times."""
    paths = list(Path(".cache/sweep").glob("*/trials.jsonl"))
    found = [
        json.loads(line)
        for path in paths
        for line in path.read_text().splitlines()
        if line.endswith("}")
    ]
    return [{k: v for k, v in one.items() if k not in {"began", "ended"}} for one in found]


def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(
    started: Callable[..., Any],
) -> None:
    said, _ = started(12).communicate(timeout=120)
    expected = lines()
    assert len(expected) == 12, said
    journal().unlink()
    Path("mlflow.db").unlink()
    for until in (3, 8):
        running = started(12)
        while len(lines()) < until:
            assert running.poll() is None, running.communicate()
            time.sleep(0.002)
        running.send_signal(signal.SIGKILL)
        running.communicate()
    again, _ = started(12).communicate(timeout=120)
    assert lines() == expected
    assert again.splitlines()[-1] == said.splitlines()[-1]
    parent, trials = runs()  # none of those that a kill cut off is among them
    assert parent.info.status == "FINISHED"
    assert len(trials) == 12
    assert {each.info.status for each in trials} == {"FINISHED"}
