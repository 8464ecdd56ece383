"""The stage: real networks on small images, and whole processes."""

import json
import random
import sys
import time
from dataclasses import astuple
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from pipeline.core import history, stage
from pipeline.core.errors import PipelineError
from pipeline.core.source_code import imported_files
from pipeline.images import memo
from pipeline.network import calibration, model_folder
from pipeline.params import Params
from pipeline.stages.train import __main__ as train
from pipeline.stages.train import loop, setup, training
from pipeline.stages.train.calibration_images import draw, set_aside
from pipeline.stages.train.checkpoint import Checkpoint
from pipeline.stages.train.state import Job
from pipeline.tracking.recorder import NO_RECORD
from tests import ROOT
from tests.builders.forks import Fork
from tests.builders.models import compute_features, prepare_job, train_job
from tests.builders.params import NARROW_RESNET, override
from tests.builders.train_stage import NOWHERE, OF_TORCH, WORDS, epoch_saved, read_outs

MAX_DIFFERENCE = {"head": 1e-3, "all": 1e-2}  # on one thread and on two, as in docs/training.md


def weights_of(job: Job) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in job.network.state_dict().items()}


def has_same_weights(job: Job, other: Job) -> bool:
    values, others = weights_of(job), weights_of(other)
    return values.keys() == others.keys() and all(
        torch.equal(values[name], others[name]) for name in values
    )


@OF_TORCH
def test_a_large_set_is_calibrated_with_its_first_images(
    dataset: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _, examples = prepare_job(dataset, override(params, **NARROW_RESNET))
    sets = []

    def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
        sets.append((scores, labels.tolist()))
        return 1.0

    monkeypatch.setattr(calibration, "fit_temperature", fit_temperature)
    setup.calibrate(job, examples)
    monkeypatch.setattr(setup, "MAX_SCORES", 7)  # of three images and two classes
    setup.calibrate(job, examples)
    (all_scores, all_labels), (scores, labels) = sets
    assert len(all_labels) == len(examples.rows("val")) > 3
    assert labels == all_labels[:3]
    np.testing.assert_allclose(scores, all_scores[:3], atol=1e-5)


@OF_TORCH
@pytest.mark.parametrize(("trainable", "lr"), [("head", 0.1), ("layer3", 0.003), ("all", 0.003)])
def test_the_loss_falls(dataset: Path, params: Params, trainable: str, lr: float) -> None:
    """That a repetition gives the same weights is part of the tests of the loop and of resuming."""
    changed = override(
        params, **NARROW_RESNET, model__trainable=trainable, train__epochs=12, train__lr=lr
    )
    _, _, records = train_job(dataset, changed)
    assert records[-1].train_loss < 0.6 * records[0].train_loss


@OF_TORCH
def test_only_the_trainable_part_changes(dataset: Path, params: Params) -> None:
    narrow = override(params, **NARROW_RESNET)
    job, _, examples = prepare_job(dataset, narrow)
    before = weights_of(job)
    list(loop.fit(job, examples, narrow.train))
    after = weights_of(job)
    names = {name for name in before if not torch.equal(before[name], after[name])}
    assert names == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize(
    "change", [NARROW_RESNET | {"model__trainable": "head"}, {"model__trainable": "features.18"}]
)
def test_training_inside_the_loop_equals_training_from_the_cache(
    dataset: Path, params: Params, change: dict[str, str]
) -> None:
    cached = override(params, **change)
    inside = override(cached, features__max_gigabytes=0.0)
    job, _, records = train_job(dataset, cached)
    other, _, repeated = train_job(dataset, inside)
    assert records == repeated
    assert has_same_weights(job, other)


@OF_TORCH
@pytest.mark.parametrize("weights", ["imagenet", "none"])
def test_only_pretrained_parameters_get_the_pretrained_rate(
    dataset: Path, params: Params, weights: str
) -> None:
    changed = override(
        params,
        model__weights=weights,
        model__trainable="features.18",
        features__max_gigabytes=0.0,  # nothing is computed
    )
    job, _, _ = prepare_job(dataset, changed)
    names = {name for name, value in job.network.named_parameters() if value in job.pretrained}
    assert ("features.18.0.weight" in names) is (weights == "imagenet")
    assert not any(name.startswith("classifier.1.") for name in names)


@OF_TORCH
def test_the_fingerprint_depends_on_all_params_of_the_training_and_no_others(
    dataset: Path, params: Params
) -> None:
    unstored = override(params, **NARROW_RESNET, features__max_gigabytes=0.0)
    cards = [
        prepare_job(dataset, override(unstored, **change))[1].fingerprint
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


def test_the_fingerprint_covers_the_code_that_computes_a_training_and_no_other() -> None:
    files = imported_files(*setup.MODULES)
    modules = ("setup", "loop", "state", "optimizer", "resume", "checkpoint")
    cutting = ("cut", "tracing", "cut_constants", "halves", "heads")
    inputs = ("views", "feature_store", "calibration")
    for path in (
        *(f"pipeline/stages/train/{name}.py" for name in modules),
        *(f"pipeline/network/{name}.py" for name in (*cutting, *inputs)),
        "pipeline/images/decoding.py",
        "pipeline/params/training.py",
    ):
        assert path in files
    assert not [path for path in files if path.startswith("pipeline/tracking/")]
    assert "pipeline/stages/train/augmented_png.py" not in files


@OF_TORCH
def test_a_killed_training_of_a_whole_network_ends_with_the_same_bytes(
    dataset: Path, params: Params
) -> None:
    changed = override(
        params, **NARROW_RESNET, model__trainable="all", train__epochs=3, head__kind="mlp"
    )
    whole, card, records = train_job(dataset, changed)
    checkpoint = Checkpoint(card.fingerprint)
    killed, _, examples = prepare_job(dataset, changed)
    for record in loop.fit(killed, examples, changed.train, checkpoint):
        if record.epoch == 2:
            break
    job, _, _ = prepare_job(dataset, changed)
    assert list(loop.fit(job, examples, changed.train, checkpoint)) == records
    assert has_same_weights(job, whole)


@OF_TORCH
def test_the_error_for_a_lack_of_memory_names_the_params_to_lower(
    dataset: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_out_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    narrow = override(params, **NARROW_RESNET)
    job, _, examples = prepare_job(dataset, narrow)
    monkeypatch.setattr(loop, "_step", raise_out_of_memory)
    with pytest.raises(PipelineError, match=r"^out of memory: lower train\.batch_size \(8;"):
        training.train(narrow, job, examples, Checkpoint("run"), NO_RECORD)


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
def test_params_that_the_network_does_not_allow_are_refused(
    params: Params, change: dict[str, object], sentence: str
) -> None:
    with pytest.raises(PipelineError) as caught:
        setup.assemble(override(params, **change), 2)
    assert str(caught.value).startswith(sentence)


# ---- processes ----


def fork(params: Params, **environment: str) -> Fork:
    """The stage in a child of this process and the working directory."""
    Path("params.yaml").write_text(json.dumps(params.model_dump()))

    def main() -> None:
        sys.modules["__main__"] = train  # which Fabric starts again for the second device
        stage.run(train.main)

    return Fork(main, [str(train.__file__), *WORDS], Path("output.txt"), **environment)


@OF_TORCH
def test_a_training_killed_at_any_moment_resumes_and_ends_with_the_same_bytes(
    dataset: Path, params: Params
) -> None:
    changed = override(
        params, **NARROW_RESNET, head__kind="mlp", train__epochs=100, train__schedule="cosine"
    )
    compute_features(dataset, changed)
    summary = fork(changed, **NOWHERE).finish().splitlines()[-1]
    assert summary.startswith("train: best epoch ")
    assert summary.endswith("; not recorded in MLflow, for the reason in the warning")
    expected = read_outs()
    for name in expected:
        Path(name).unlink()

    fingerprint = json.loads(expected["models/model.json"])["fingerprint"]
    folder = Path(".cache/train", memo.on_this_machine(fingerprint))
    assert not folder.exists()  # removed at the end
    generator, reached = random.Random(1), 0
    for _ in range(2):
        process = fork(changed, **NOWHERE)
        until = reached + generator.randint(1, 20)
        while (epoch := epoch_saved(folder / "state.safetensors")) < until:
            assert epoch >= reached, "it began again"
            process.check()
            time.sleep(0.002)
        time.sleep(generator.random() * 0.02)
        process.kill()
        assert not any(Path(name).exists() for name in expected)
        reached = epoch_saved(folder / "state.safetensors")
    assert 0 < reached < 100
    fork(changed, **NOWHERE).finish()
    assert read_outs() == expected
    assert not folder.exists()


@OF_TORCH
def test_torch_compile_changes_no_figure(
    dataset: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torch's backend that wraps, but compiles nothing: others take minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    changed = override(params, **NARROW_RESNET, model__trainable="layer3", train__epochs=2)
    job, _, records = train_job(dataset, changed)
    again, _, repeated = train_job(dataset, override(changed, device__compile=True))
    for eager, compiled in zip(records, repeated, strict=True):
        assert astuple(compiled) == pytest.approx(astuple(eager), abs=1e-5)
    assert job.network.state_dict().keys() == again.network.state_dict().keys()
    torch._dynamo.reset()


@OF_TORCH
@pytest.mark.parametrize("trainable", ["head", "all"])
def test_one_thread_and_two_differ_within_the_stated_tolerance(
    dataset: Path, params: Params, trainable: str
) -> None:
    changed = override(
        params, **NARROW_RESNET, model__trainable=trainable, train__epochs=3, train__lr=0.003
    )
    before, histories = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            histories.append(train_job(dataset, changed)[2])
    finally:
        torch.set_num_threads(before)
    for record, other in zip(*histories, strict=True):
        assert astuple(other) == pytest.approx(astuple(record), abs=MAX_DIFFERENCE[trainable])


def test_two_processes_train_as_one_does(
    dataset: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    on_one = override(
        params, **NARROW_RESNET, train__epochs=4, train__lr=0.02, abstention__share=0.5
    )
    on_two = override(on_one, device__devices=2)
    job, _, examples = prepare_job(dataset, on_one)
    calibration = draw(dataset / "split.csv", examples, on_one.abstention)
    alone = list(loop.fit(job, set_aside(examples, calibration.rows), on_one.train))

    output = fork(on_two).finish()
    assert output.count("train: best epoch") == 1, output  # only one of them prints
    together = history.read(Path("reports/history.csv"))
    assert len(alone) == len(together) == 4
    for record, other in zip(alone, together, strict=True):
        assert astuple(other) == pytest.approx(astuple(record), abs=1e-4)
    assert all(read_outs().values())
    promises = model_folder.read_card(Path("models")).abstention
    assert promises is not None
    assert promises.groups == promises.images == len(calibration.rows) == 8
    mlflow.set_tracking_uri(f"sqlite:///{dataset.parent / 'mlflow.db'}")
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.status == "FINISHED"
    assert len(MlflowClient().get_metric_history(run.info.run_id, "curves/val_loss")) == 4
    assert not list(Path(".cache/train").iterdir())
