"""Sweeps of a small network on small pictures, in this process and in others."""

import json
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from ruamel.yaml import YAML

import pipeline.__main__
from pipeline.commands.sweep import search_space, study, sweep
from pipeline.commands.sweep.goal import Goal
from pipeline.commands.sweep.journal import DIGEST, EndedTrial, Journal, TrialState
from pipeline.commands.sweep.mlflow_runs import KEY, SweepRun
from pipeline.commands.sweep.summary import SweepResult
from pipeline.commands.sweep.sweep import SweepRequest
from pipeline.commands.sweep.trainer import StagePaths
from pipeline.core import atomic, history, shards
from pipeline.core.errors import PipelineError
from pipeline.params import Params, with_overrides
from pipeline.stages.evaluate import charts
from pipeline.stages.train import __main__ as train
from pipeline.tracking import store
from tests.builders.forks import Fork
from tests.builders.models import compute_features
from tests.builders.params import NARROW_RESNET, override
from tests.builders.stores import copy_store

PATHS = StagePaths(Path("data/clean"), Path("data/split.csv"), Path("data/features"))
SPACE = [
    "train.lr=tag(log,interval(0.0001,0.1))",
    "head.kind=linear,mlp",
    "head.dropout=interval(0,0.5)",
    "train.seed=1,2",
]
UNREACHABLE = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


@pytest.fixture(scope="module")
def cheap_features(
    tmp_path_factory: pytest.TempPathFactory, striped_data: Path, params: Params
) -> Path:
    """The features of a small network. Copy them before use."""
    folder = tmp_path_factory.mktemp("cheap")
    shutil.copytree(striped_data / "data", folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        return folder / compute_features(Path("data"), override(params, **NARROW_RESNET))


@pytest.fixture
def cheap(dataset: Path, params: Params, cheap_features: Path) -> Params:
    """Params of a small network; its features are in data/features."""
    shutil.copytree(cheap_features, dataset / "features")
    return override(params, **NARROW_RESNET)


@pytest.fixture
def plots(tmp_path: Path) -> Path:
    """A folder for plots that a test looks at."""
    return tmp_path / "plots"


@pytest.fixture(autouse=True)
def _unrendered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave plots that no test looks at empty: to render them takes longer than the trials."""
    if "plots" not in request.fixturenames:
        monkeypatch.setattr(charts, "png", lambda _: b"")


def create_request(trials: int, *overrides: str, **changed: Any) -> SweepRequest:
    options: dict[str, Any] = {"goal": Goal.VAL_LOSS, "seed": 1, "name": "", "plots": None}
    return SweepRequest(overrides or SPACE, trials, **options | changed)


def run_sweep(params: Params, trials: int, *overrides: str, **changed: Any) -> SweepResult:
    return sweep.sweep(params, create_request(trials, *overrides, **changed), PATHS)


def without_times(result: SweepResult) -> list[EndedTrial]:
    return [replace(trial, start_ms=0, end_ms=0) for trial in result.trials]


def all_runs() -> list[Run]:
    mlflow.set_tracking_uri(f"sqlite:///{Path('mlflow.db').absolute()}")
    return list(mlflow.search_runs(search_all_experiments=True, output_format="list"))


def sweep_runs() -> tuple[Run, list[Run]]:
    """The run of the sweep, and those of its trials in order of number."""
    runs = all_runs()
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    trials = [run for run in runs if run.info.run_id != parent.info.run_id]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} <= {parent.info.run_id}
    return parent, sorted(trials, key=lambda run: int(run.data.tags["sweep.trial"]))


@pytest.mark.parametrize("goal", Goal)
def test_the_command_trains_the_winner_again_to_the_last_bit(
    cheap: Params, goal: Goal, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_sweep(cheap, 6, *SPACE, "head.kind=mlp", goal=goal)
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[:3] == ["dvc", "exp", "run"]
    values = dict(option.split("=") for option in words[4::2])
    overrides = {name: YAML(typ="safe", pure=True).load(text) for name, text in values.items()}
    winner = with_overrides(cheap, overrides)
    Path("params.yaml").write_text(json.dumps(winner.model_dump()))
    train.main(
        PATHS.clean,
        PATHS.split_csv,
        PATHS.features,
        Path("models"),
        Path("history.csv"),
        Path("augmented.png"),
    )
    rows = [
        {name: float(value) for name, value in row.items()}
        for row in atomic.read_csv(Path("history.csv"))
    ]
    best = min(rows, key=lambda row: row["val_loss"])
    assert best[goal.value] == result.value(result.winner)
    assert [row["val_loss"] for row in rows] == [
        record.val_loss for record in result.winner.history
    ]


def test_heads_that_are_solved_are_complete_after_one_validation(cheap: Params) -> None:
    space = ["head.kind=ridge,logistic", "train.class_weights=none,balanced"]
    result = run_sweep(cheap, 3, *space)
    assert result.counts() == {"complete": 3, "pruned": 0, "failed": 0}
    assert [len(trial.history) for trial in result.trials] == [1, 1, 1]


def test_a_sweep_is_deterministic_and_tries_the_params_as_they_are_first(cheap: Params) -> None:
    first = run_sweep(cheap, 4)
    journal_path().unlink()
    second = run_sweep(cheap, 4)
    assert without_times(first) == without_times(second)
    names = first.space.distributions
    assert first.trials[0].values == {name: cheap.flat()[name] for name in names}
    assert len({str(trial.values) for trial in first.trials}) == 4


def journal_path() -> Path:
    """The journal of the only sweep."""
    (path,) = Path(".cache/sweep").glob("*/trials.jsonl")
    return path


def test_more_trials_continue_a_sweep_without_duplicate_runs(cheap: Params) -> None:
    run_sweep(cheap, 3)
    parent, trials = sweep_runs()
    first = {run.info.run_id for run in trials}
    tags = {"mlflow.parentRunId": parent.info.run_id, "sweep.trial": "3"}
    interrupted = MlflowClient().create_run(parent.info.experiment_id, tags=tags)
    MlflowClient().set_terminated(interrupted.info.run_id, "KILLED")
    result = run_sweep(cheap, 14)
    parent, trials = sweep_runs()
    assert [run.data.tags["sweep.trial"] for run in trials] == [str(n) for n in range(14)]
    assert first < {run.info.run_id for run in trials}
    assert interrupted.info.run_id not in {run.info.run_id for run in trials}
    journal_path().unlink()
    assert without_times(run_sweep(cheap, 14)) == without_times(result)
    assert parent.info.status == "FINISHED"


def test_mlflow_has_a_run_for_each_trial_below_the_sweep(cheap: Params, plots: Path) -> None:
    result = run_sweep(cheap, 12, *SPACE, name="heads", plots=plots)
    parent, trials = sweep_runs()
    assert parent.info.run_name == "heads"
    assert parent.data.params["space.head.kind"] == "linear,mlp"
    assert result.command() in parent.data.tags["mlflow.note.content"]
    assert parent.data.metrics["trials.complete"] == result.counts()["complete"]
    names = {"history.png", "importance.png", "slices.png", "trials.csv"}
    artifacts = MlflowClient().list_artifacts(parent.info.run_id)
    assert (
        {artifact.path for artifact in artifacts}
        == names
        == {path.name for path in plots.iterdir()}
    )
    assert len(atomic.read_csv(plots / "trials.csv")) == 12
    for trial, run in zip(result.trials, trials, strict=True):
        assert run.info.status == "FINISHED"
        assert run.data.tags["sweep.state"] == trial.state.value
        assert run.data.params["train.lr"] == str(trial.values["train.lr"])
        assert run.data.params.keys() == cheap.flat().keys()
        assert run.data.metrics["kept/val_loss"] == result.value(trial)
        curve = MlflowClient().get_metric_history(run.info.run_id, "curves/val_loss")
        assert [(metric.step, metric.value) for metric in curve] == [
            (round(record.epoch), record.val_loss) for record in trial.history
        ]


def test_an_unreachable_server_is_one_warning_and_gets_the_runs_later(
    cheap: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as offline:
        for name, value in UNREACHABLE.items():
            offline.setenv(name, value)
        run_sweep(cheap, 2)
    assert capsys.readouterr().err.count("warning: MLflow at http://127.0.0.1:9 fails") == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_sweep(cheap, 2)
    assert len(sweep_runs()[1]) == 2


def test_a_colleagues_running_sweep_is_left_alone(cheap: Params) -> None:
    """The journal is local, the server shared."""
    theirs, mine = SweepRun(cheap, "k" * 20, ""), SweepRun(cheap, "k" * 20, "")
    space = search_space.parse(SPACE, cheap)
    theirs.open(space, Goal.VAL_LOSS, 1)
    client = MlflowClient()
    (parent,) = all_runs()
    tags = {"mlflow.parentRunId": parent.info.run_id, "sweep.trial": "0"}
    trial = client.create_run(parent.info.experiment_id, tags=tags)
    mine.open(space, Goal.VAL_LOSS, 1)
    mine.end("FINISHED")
    states = {run.info.run_id: run.info.status for run in all_runs()}
    assert len(states) == 3
    assert states[parent.info.run_id] == states[trial.info.run_id] == "RUNNING"
    theirs.end("FINISHED")


def test_all_runs_on_other_images_than_the_data_sets_are_tagged(cheap: Params) -> None:
    rows = shards.columns(PATHS.clean, shards.CLEAN.names).to_pylist()
    shards.write(PATHS.clean, shards.with_deviation(shards.CLEAN, "x.zip has 5 bytes"), rows)
    run_sweep(cheap, 1)
    parent, (trial,) = sweep_runs()
    for run in (parent, trial):
        assert run.data.tags["dataset.deviation"] == "x.zip has 5 bytes"


def test_the_run_of_a_killed_sweep_is_completed_with_nothing_twice(cheap: Params) -> None:
    """The first process dies before the params are logged, the second after the summary."""
    space = search_space.parse(SPACE, cheap)
    experiment = store.experiment_id(cheap.dataset.name)
    begun = MlflowClient().create_run(experiment, tags={KEY: "k" * 20}).info.run_id
    MlflowClient().set_terminated(begun, "KILLED")
    for _ in range(2):
        run = SweepRun(cheap, "k" * 20, "")
        run.open(space, Goal.VAL_LOSS, 1)
        run.add_summary("note", {"trials.complete": 3.0}, [])
        run.end("KILLED")
    (parent,) = all_runs()
    assert parent.info.run_id == begun
    assert parent.data.params["sweep.goal"] == Goal.VAL_LOSS.value
    assert parent.data.params.keys() >= {f"space.{name}" for name in space.texts}
    (metric,) = MlflowClient().get_metric_history(begun, "trials.complete")
    assert metric.value == 3


def test_an_invalid_combination_fails_its_trial_alone(cheap: Params) -> None:
    result = run_sweep(cheap, 9, "train.warmup_epochs=0,1", "train.schedule=cosine,one-cycle")
    failed = [trial for trial in result.trials if trial.state is TrialState.FAILED]
    assert 0 < len(failed) < 9
    assert all("one-cycle warms up by itself" in trial.reason for trial in failed)
    states = [run.data.tags["sweep.state"] for run in sweep_runs()[1]]
    assert states.count("failed") == len(failed)


def test_a_sweep_without_complete_trials_is_refused_with_reasons(cheap: Params) -> None:
    with pytest.raises(PipelineError, match=r"^no trial trained to its end: 3 the loss is not"):
        run_sweep(cheap, 3, "train.lr=interval(1e30,1e35)", "train.optimizer=sgd")
    assert sweep_runs()[0].info.status == "FAILED"


def test_an_interrupted_sweep_prints_the_best_so_far(
    cheap: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_trial, trials = study._run_trial, list[EndedTrial]()

    def interrupt_third(*arguments: Any) -> EndedTrial:
        if len(trials) == 2:
            raise KeyboardInterrupt
        trials.append(run_trial(*arguments))
        return trials[-1]

    with monkeypatch.context() as patched:
        patched.setattr(study, "_run_trial", interrupt_third)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(cheap, 5)
    assert capsys.readouterr().out.splitlines()[-1].startswith("dvc exp run -S train.lr=")
    assert sweep_runs()[0].info.status == "KILLED"
    assert len(run_sweep(cheap, 5).trials) == 5
    assert sweep_runs()[0].info.status == "FINISHED"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"device__devices": 2},
            "device.devices=2 and device.nodes=1, but trials run in one process",
        ),
        ({"images__rotate": 20.0}, "data/features was made with other params than are in params"),
        (
            {"split__seed": 9},
            "data/features was made with other params than are in params.yaml "
            "now (split.seed): run `dvc repro features` first",
        ),
    ],
)
def test_features_of_other_params_are_refused(
    cheap: Params, change: dict[str, object], sentence: str
) -> None:
    sections = {"split": ["split"], "features": ["images", "model", "features", "device"]}
    stages = {
        stage: {"params": {"params.yaml": {name: cheap.model_dump()[name] for name in names}}}
        for stage, names in sections.items()
    }
    Path("dvc.lock").write_text(json.dumps({"stages": stages}))
    with pytest.raises(PipelineError) as caught:
        run_sweep(override(cheap, **change), 1)
    assert str(caught.value).startswith(sentence)


def test_a_sweep_without_features_is_refused(dataset: Path, params: Params, cheap: Params) -> None:
    unfrozen = override(cheap, model__trainable="all")
    compute_features(dataset, unfrozen)
    with pytest.raises(PipelineError, match=r"no features for trials to share \(nothing is froz"):
        run_sweep(unfrozen, 1)
    (dataset / "features/features.json").unlink()
    with pytest.raises(PipelineError, match=r"features.json is missing: run `dvc repro features`"):
        run_sweep(cheap, 1)


def test_a_line_cut_off_by_a_kill_is_removed(cheap: Params) -> None:
    result = run_sweep(cheap, 3)
    path = journal_path()
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    assert without_times(run_sweep(cheap, 3)) == without_times(result)
    assert len(path.read_bytes().splitlines()) == 3


def test_damaged_trials_are_run_again_with_a_warning(
    cheap: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_sweep(cheap, 3)
    path = journal_path()
    whole = path.read_bytes()
    first, second, third = whole.splitlines(keepends=True)
    damages = {
        "another digit": second.replace(b'"val_loss": 0.', b'"val_loss": 1.', 1) + third,
        "zeros": second[:20] + bytes(20) + second[40:] + third,
        "zeros to the end": bytes(len(second + third)),
    }
    warning = f"warning: {path.absolute()} is damaged: trials from 1 on are run again"
    for damage, content in damages.items():
        assert content != second + third
        path.write_bytes(first + content)
        capsys.readouterr()
        assert without_times(run_sweep(cheap, 3)) == without_times(result), damage
        assert warning in capsys.readouterr().err, damage
    run_sweep(cheap, 3)
    assert "damaged" not in capsys.readouterr().err


def test_the_same_sweep_cannot_run_twice_at_a_time(cheap: Params) -> None:
    with Journal("key"), pytest.raises(PipelineError, match="the same sweep is running already"):
        Journal("key")


def test_bad_trials_are_pruned_and_importances_printed(
    cheap: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = override(cheap, train__epochs=8)
    result = run_sweep(longer, 30)
    assert result.counts()["pruned"] > 3
    assert {trial.number for trial in result.ranked} == {
        trial.number for trial in result.trials if len(trial.history) == 8
    }
    assert "what mattered (share of the variance between complete trials): " in (
        capsys.readouterr().out
    )
    best = min(result.ranked, key=lambda trial: history.best(trial.history).val_loss)
    assert best.number == result.winner.number


# Processes


@pytest.fixture
def start_sweep(cheap: Params) -> Callable[[int], Fork]:
    """Starts `pipeline sweep` in the working directory."""
    Path("params.yaml").write_text(json.dumps(cheap.model_dump()))
    options = [word for text in SPACE for word in ("-S", text)]

    def start(trials: int) -> Fork:
        words = ["pipeline", "sweep", "-n", str(trials), *options]
        return Fork(pipeline.__main__.main, words, Path("output.txt"))

    return start


def journal_lines() -> list[dict[str, Any]]:
    """The complete lines of the journal, without times and their digests."""
    paths = list(Path(".cache/sweep").glob("*/trials.jsonl"))
    trials = [
        json.loads(line)
        for path in paths
        for line in path.read_text().splitlines()
        if line.endswith("}")
    ]
    return [{k: v for k, v in trial.items() if not k.endswith(("_ms", DIGEST))} for trial in trials]


def test_a_killed_sweep_continues_to_the_same_result(
    start_sweep: Callable[[int], Fork], empty_store: Path
) -> None:
    output = start_sweep(14).finish()
    expected = journal_lines()
    assert len(expected) == 14, output
    journal_path().unlink()
    copy_store(empty_store, Path())
    for trial_count in (3, 12):  # before and after the end of the random trials
        running = start_sweep(14)
        while len(journal_lines()) < trial_count:
            running.check()
            time.sleep(0.002)
        running.kill()
        assert len(journal_lines()) < 14
    resumed = start_sweep(14).finish()
    assert journal_lines() == expected
    assert resumed.splitlines()[-1] == output.splitlines()[-1]
    parent, trials = sweep_runs()  # runs that a kill interrupted are deleted
    assert parent.info.status == "FINISHED"
    assert len(trials) == 14
    assert {run.info.status for run in trials} == {"FINISHED"}
