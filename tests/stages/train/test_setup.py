"""The stage: real networks on small pictures, and whole processes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from safetensors import safe_open

from pipeline.core import atomic
from pipeline.core.errors import PipelineError
from pipeline.network import tensors
from pipeline.params import Params
from pipeline.stages.train import __main__ as train
from pipeline.stages.train import loop, setup
from pipeline.stages.train.checkpoint import Checkpoint
from pipeline.stages.train.state import Job
from pipeline.tracking.run import Run
from tests import ROOT
from tests.builders.models import compute_features, prepare_job, train_job
from tests.builders.params import NARROW_RESNET, override

STAGE = [
    sys.executable,
    "-m",
    "pipeline.stages.train",
    "data/clean",
    "data/split.csv",
    "data/features",
    "models",
    "reports/history.csv",
    "reports/augmented.png",
]
NOWHERE = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
# What docs/training.md says of losses and accuracies on one thread and on two.
THREADS_DIFFER = {"head": 1e-3, "all": 1e-2}  # as docs/training.md says


# To be trained from scratch, in a fraction of the time that the shipped network takes.


def weights_of(job: Job) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in job.network.state_dict().items()}


def same(one: Job, other: Job) -> bool:
    values, others = weights_of(one), weights_of(other)
    return values.keys() == others.keys() and all(
        torch.equal(values[name], others[name]) for name in values
    )


@pytest.mark.parametrize(("trainable", "lr"), [("head", 0.1), ("layer3", 0.003), ("all", 0.003)])
def test_it_learns_and_twice_gives_the_same_weights(
    dataset: Path, params: Params, trainable: str, lr: float
) -> None:
    chosen = override(
        params, **NARROW_RESNET, model__trainable=trainable, train__epochs=12, train__lr=lr
    )
    job, _, history = train_job(dataset, chosen)
    again, _, repeated = train_job(dataset, chosen)
    assert history == repeated
    assert same(job, again)
    assert history[-1].train_loss < 0.6 * history[0].train_loss


def test_only_the_trainable_part_changes(dataset: Path, params: Params) -> None:
    job, _, examples = prepare_job(dataset, params)
    before = weights_of(job)
    list(loop.fit(job, examples, params.train))
    after = weights_of(job)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"classifier.1.weight", "classifier.1.bias"}


@pytest.mark.parametrize("trainable", ["head", "features.18"])
def test_training_inside_the_loop_equals_training_from_the_cache(
    dataset: Path, params: Params, trainable: str
) -> None:
    cached = override(params, model__trainable=trainable)
    inside = override(cached, features__max_gigabytes=0.0)
    (one, _, history), (other, _, repeated) = train_job(dataset, cached), train_job(dataset, inside)
    assert history == repeated
    assert same(one, other)


@pytest.mark.parametrize("weights", ["imagenet", "none"])
def test_what_came_with_weights_learns_at_a_rate_of_its_own(
    dataset: Path, params: Params, weights: str
) -> None:
    chosen = override(params, model__weights=weights, model__trainable="features.18")
    job, _, _ = prepare_job(dataset, chosen)
    names = {name for name, value in job.network.named_parameters() if value in job.pretrained}
    assert ("features.18.0.weight" in names) is (weights == "imagenet")
    assert not any(name.startswith("classifier.1.") for name in names)


def test_the_fingerprint_follows_what_the_training_depends_on(
    dataset: Path, params: Params
) -> None:
    cards = [
        prepare_job(dataset, override(params, **NARROW_RESNET, **change))[1].fingerprint
        for change in (
            {},
            {},
            {"evaluate__samples": 3},
            {"train__seed": 7},
            {"head__dropout": 0.1},
            {"images__rotate": 20.0},
            {"features__views": 2},
        )
    ]
    assert cards[0] == cards[1] == cards[2]
    assert len(set(cards)) == 5


def test_a_killed_training_of_a_whole_network_ends_with_the_same_bytes(
    dataset: Path, params: Params
) -> None:
    chosen = override(
        params, **NARROW_RESNET, model__trainable="all", train__epochs=4, head__kind="mlp"
    )
    whole, card, history = train_job(dataset, chosen)
    saved = Checkpoint(card.fingerprint)
    killed, _, examples = prepare_job(dataset, chosen)
    for record in loop.fit(killed, examples, chosen.train, saved):
        if record.epoch == 3:
            break
    job, _, _ = prepare_job(dataset, chosen)
    assert list(loop.fit(job, examples, chosen.train, saved)) == history
    assert same(job, whole)


def test_a_lack_of_memory_names_what_to_lower(
    dataset: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    job, _, examples = prepare_job(dataset, params)
    monkeypatch.setattr(loop, "_step", full)
    with pytest.raises(PipelineError, match=r"^out of memory: lower train\.batch_size \(8;"):
        train.train(params, job, examples, Checkpoint("run"), Run())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model__trainable": "features.99"}, "model.trainable=features.99 names no layer"),
        ({"model__replace": "top"}, "model.replace=top names no layer"),
        (
            {"model__backbone": "alexnet", "model__weights": "none", "images__size": 16},
            "this network cannot take images.size=16",
        ),
    ],
    ids=["trainable", "replace", "size"],
)
def test_what_the_network_does_not_allow_is_told(
    params: Params, change: dict[str, object], sentence: str
) -> None:
    with pytest.raises(PipelineError) as caught:
        setup.assemble(override(params, **change), 2)
    assert str(caught.value).startswith(sentence)


# ---- processes ----


@pytest.fixture
def started(dataset: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts the stage in the working directory, with these params."""

    def start(params: Params, **environment: str) -> "subprocess.Popen[str]":
        Path("params.yaml").write_text(json.dumps(params.model_dump()))
        return subprocess.Popen(
            STAGE,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def outcome(running: "subprocess.Popen[str]") -> str:
    """What it said, once it has ended well."""
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said
    return said


def written() -> dict[str, bytes]:
    names = (
        "models/model.safetensors",
        "models/model.json",
        "reports/history.csv",
        "reports/augmented.png",
    )
    return {name: Path(name).read_bytes() for name in names}


def epoch_saved(path: Path) -> int:
    """Of the checkpoint, 0 where there is none."""
    try:
        with safe_open(path, "pt") as opened:
            return int(json.loads(opened.metadata()[tensors.NOTE])["epoch"])
    except FileNotFoundError:
        return 0


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_bytes(
    dataset: Path, params: Params, started: Callable[..., Any]
) -> None:
    chosen = override(
        params, **NARROW_RESNET, head__kind="mlp", train__epochs=150, train__schedule="cosine"
    )
    compute_features(dataset, chosen)
    outcome(started(chosen, **NOWHERE))
    expected = written()
    for name in expected:
        Path(name).unlink()

    place = Path(".cache/train", json.loads(expected["models/model.json"])["fingerprint"])
    assert not place.exists()  # what has ended is not kept
    chance, reached = random.Random(1), 0
    for _ in range(3):
        running = started(chosen, **NOWHERE)
        until = reached + chance.randint(1, 20)
        while (now := epoch_saved(place / "state.safetensors")) < until:
            assert now >= reached, "it began anew"
            assert running.poll() is None, running.communicate()
            time.sleep(0.002)
        time.sleep(chance.random() * 0.02)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert not any(Path(name).exists() for name in expected)
        reached = epoch_saved(place / "state.safetensors")
    assert 0 < reached < 150
    outcome(started(chosen, **NOWHERE))
    assert written() == expected
    assert not place.exists()


def test_torch_compile_changes_no_figure(
    dataset: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torch's backend that compiles nothing, but wraps all the same: another takes minutes."""
    translate = partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", translate)
    chosen = override(params, **NARROW_RESNET, model__trainable="layer3")
    job, _, history = train_job(dataset, chosen)
    again, _, repeated = train_job(dataset, override(chosen, device__compile=True))
    for one, other in zip(history, repeated, strict=True):
        assert astuple(other) == pytest.approx(astuple(one), abs=1e-5)
    assert job.network.state_dict().keys() == again.network.state_dict().keys()
    torch._dynamo.reset()


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_one_thread_and_two_differ_within_the_stated_tolerance(
    dataset: Path, params: Params, trainable: str
) -> None:
    chosen = override(
        params, **NARROW_RESNET, model__trainable=trainable, train__epochs=6, train__lr=0.003
    )
    kept, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(train_job(dataset, chosen)[2])
    finally:
        torch.set_num_threads(kept)
    for one, two in zip(*found, strict=True):
        assert astuple(two) == pytest.approx(astuple(one), abs=THREADS_DIFFER[trainable])


def test_two_processes_train_as_one_does(
    dataset: Path, params: Params, started: Callable[..., Any]
) -> None:
    one = override(params, **NARROW_RESNET, train__epochs=6, train__lr=0.02)
    two = override(one, device__devices=2)
    compute_features(dataset, one)
    outcome(started(one, **NOWHERE))
    alone = [dict(row) for row in atomic.read_csv(Path("reports/history.csv"))]
    for name in written():
        Path(name).unlink()

    said = outcome(started(two))  # which ends when both hold its output no longer
    assert len(said.splitlines()) == 1, said
    assert said.startswith("train: best epoch ")
    together = atomic.read_csv(Path("reports/history.csv"))
    assert len(alone) == len(together) == 6
    for row, other in zip(alone, together, strict=True):
        for name, value in row.items():
            assert float(other[name]) == pytest.approx(float(value), abs=1e-4), name
    assert all(written().values())
    mlflow.set_tracking_uri(f"sqlite:///{dataset.parent / 'mlflow.db'}")
    (found,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert found.info.status == "FINISHED"
    assert len(MlflowClient().get_metric_history(found.info.run_id, "curves/val_loss")) == 6
    assert not list(Path(".cache/train").iterdir())
