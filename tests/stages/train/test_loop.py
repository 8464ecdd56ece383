"""The loop alone, on networks of a few weights and inputs that are only numbers."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.core import columns
from pipeline.core.errors import PipelineError
from pipeline.core.history import Record
from pipeline.core.history import best as best_record
from pipeline.network import device
from pipeline.network.examples import Examples
from pipeline.network.feature_arrays import Rows
from pipeline.network.loading.parallel_forward import Tensors
from pipeline.network.views import EVALUATION
from pipeline.params import DeviceParams, Params, TrainParams, with_overrides
from pipeline.stages.train import loop
from pipeline.stages.train.checkpoint import Checkpoint
from pipeline.stages.train.state import Job
from tests.builders.features import feature_index

CPU = DeviceParams(accelerator="cpu", precision="32-true", devices=1, nodes=1, compile=False)
OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "one-cycle", "plateau")
INDEX = feature_index(augment="crop-flip", views=2, shapes=[[8]])


def make_examples(count: int = 36, train: int = 21, classes: int = 3) -> Examples:
    """Classes take turns; after the training rows, every other one validates."""
    splits = ["train" if row < train else ("val", "test")[row % 2] for row in range(count)]
    labels = torch.arange(count) % classes
    ids = [f"{row:03}" for row in range(count)]
    return Examples.of(ids, labels, splits, list("abcdefg"[:classes]), stored=ids)


@dataclass
class Numbers:
    """A source that records its requests, and refuses images of the test set."""

    examples: Examples
    requests: list[tuple[int, list[int]]] = field(default_factory=list)
    sub_batch: int = 16

    def batches(self, order: Sequence[Rows], view: int) -> Iterator[Tensors]:
        for rows in order:
            numbers = rows.tolist()
            assert not set(numbers) & set(self.examples.rows("test").tolist()), (
                "a test image was requested"
            )
            self.requests.append((view, numbers))
            yield (torch.stack([self._of(row, view) for row in numbers]),)

    def _of(self, row: int, view: int) -> Tensor:
        noise = torch.randn(8, generator=torch.Generator().manual_seed(100 * row + view))
        return noise + 2 * functional.one_hot(self.examples.labels[row], 8)

    def training(self) -> list[list[int]]:
        train = set(self.examples.rows("train").tolist())
        return [rows for _, rows in self.requests if rows[0] in train]


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def with_batch_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def linear() -> nn.Module:
    return nn.Linear(8, 3)


def make_job(examples: Examples, network: Any = linear) -> Job:
    torch.manual_seed(0)
    suffix = network()
    return Job(suffix, suffix, frozenset(), Numbers(examples), INDEX, device.start(CPU))


def override(params: Params, **overrides: object) -> TrainParams:
    fast = {"train.epochs": 4, "train.batch_size": 8, "train.lr": 0.01}
    named = {f"train.{name}": value for name, value in overrides.items()}
    return with_overrides(params, fast | named).train


def source_of(job: Job) -> Numbers:
    assert isinstance(job.source, Numbers)
    return job.source


def weights_of(job: Job) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in job.suffix.state_dict().items()}


def are_equal(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(
        torch.equal(state[key], other[key]) for key in state
    )


def train_whole(params: TrainParams, network: Any) -> tuple[list[Record], dict[str, Tensor]]:
    examples = make_examples()
    job = make_job(examples, network)
    return list(loop.fit(job, examples, params)), weights_of(job)


def train_killed(params: TrainParams, network: Any, *stops: int) -> tuple[list[Record], Job]:
    """Train, stopped as by a kill at these records, before the epoch is checkpoint; then finish."""
    examples, checkpoint = make_examples(), Checkpoint("run")
    for stop in stops:
        killed = loop.fit(make_job(examples, network), examples, params, checkpoint)
        assert len(list(islice(killed, stop))) == stop
        killed.close()  # type: ignore[attr-defined]
        torch.manual_seed(stop)  # the next process has another random state
    job = make_job(examples, network)
    return list(loop.fit(job, examples, params, checkpoint)), job


# ---- resuming after a kill ----


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", [with_dropout, with_batch_norm])
def test_a_killed_training_ends_with_the_same_bytes(
    root: Path, params: Params, optimizer: str, schedule: str, network: Any
) -> None:
    train_params = override(params, optimizer=optimizer, schedule=schedule, plateau_patience=1)
    history, weights = train_whole(train_params, network)
    again, job = train_killed(train_params, network, 2, 4)
    assert again == history
    assert are_equal(weights_of(job), weights)
    assert len(source_of(job).training()) == 3  # batches of the last epoch alone


@pytest.mark.parametrize(
    "options",
    [
        {"validate_every": 2},
        {"accumulate": 2, "clip_norm": 0.5, "label_smoothing": 0.1, "class_weights": "balanced"},
        {"warmup_epochs": 1.5, "schedule": "plateau"},
        {"warmup_epochs": 1.5, "schedule": "cosine"},
        {"patience": 2, "lr": 0.3},
    ],
    ids=lambda options: "-".join(options),
)
def test_a_killed_training_with_other_options_ends_with_the_same_bytes(
    root: Path, params: Params, options: dict[str, object]
) -> None:
    train_params = override(params, **{"epochs": 5} | options)
    history, weights = train_whole(train_params, with_dropout)
    again, job = train_killed(
        train_params, with_dropout, min(3, len(history)), min(5, len(history))
    )
    assert again == history
    assert are_equal(weights_of(job), weights)


def test_a_training_killed_after_its_last_epoch_trains_no_more(root: Path, params: Params) -> None:
    train_params = override(params)
    examples, checkpoint = make_examples(), Checkpoint("run")
    first = make_job(examples, with_dropout)
    history = list(loop.fit(first, examples, train_params, checkpoint))
    job = make_job(examples, with_dropout)
    assert list(loop.fit(job, examples, train_params, checkpoint)) == history
    assert source_of(job).requests == []
    assert are_equal(weights_of(job), weights_of(first))


def test_without_a_checkpoint_it_begins_again(root: Path, params: Params) -> None:
    train_params = override(params)
    examples = make_examples()
    list(loop.fit(make_job(examples), examples, train_params, Checkpoint("other")))
    job = make_job(examples)
    list(loop.fit(job, examples, train_params, Checkpoint("run")))
    assert len(source_of(job).training()) == 3 * 4


# ---- steps ----


@pytest.mark.parametrize("train", [18, 21, 22, 24, 25])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_accumulated_batches_equal_one_large_batch(
    params: Params, train: int, weights: str
) -> None:
    examples = make_examples(40, train)
    options = {"optimizer": "sgd", "lr": 0.1, "class_weights": weights, "label_smoothing": 0.1}
    accumulated, whole_batches = make_job(examples), make_job(examples)
    small = override(params, batch_size=4, accumulate=3, **options)
    large = override(params, batch_size=12, **options)
    history = list(loop.fit(accumulated, examples, small))
    whole = list(loop.fit(whole_batches, examples, large))
    assert [record.step for record in history] == [record.step for record in whole]
    for name, value in weights_of(whole_batches).items():
        assert torch.allclose(weights_of(accumulated)[name], value, atol=1e-6, rtol=0), name
    for record, other in zip(history, whole, strict=True):
        assert record.train_loss == pytest.approx(other.train_loss, abs=1e-6)
        assert record.val_loss == pytest.approx(other.val_loss, abs=1e-6)


def test_an_epoch_has_every_training_image_once_in_random_order(
    params: Params,
) -> None:
    examples = make_examples()
    job = make_job(examples)
    list(loop.fit(job, examples, override(params)))
    rows = [row for batch in source_of(job).training() for row in batch]
    epochs = [rows[start : start + 21] for start in range(0, len(rows), 21)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(21))] * 4
    assert len(set(map(tuple, epochs))) == 4


def test_views_take_turns_and_validation_uses_the_evaluation_view(
    params: Params,
) -> None:
    examples = make_examples()
    job = make_job(examples)
    list(loop.fit(job, examples, override(params)))
    views: dict[str, list[int]] = {"train": [], "val": []}
    for view, rows in source_of(job).requests:
        (split,) = {examples.splits[row].as_py() for row in rows}
        if view not in views[split][-1:]:
            views[split].append(view)
    assert views == {"train": [1, 2, 0, 1], "val": [EVALUATION]}


def test_the_seed_decides_the_history(params: Params) -> None:
    histories = [train_whole(override(params, seed=seed), with_dropout)[0] for seed in (1, 1, 2)]
    assert histories[0] == histories[1] != histories[2]


def test_gradients_are_clipped_to_the_norm(params: Params) -> None:
    """One step of plain gradient descent goes as far as the norm allows, times the rate."""
    examples = make_examples()
    train_params = override(
        params,
        optimizer="sgd",
        momentum=0.0,
        weight_decay=0.0,
        lr=1.0,
        clip_norm=0.01,
        epochs=1,
        batch_size=21,
    )
    job = make_job(examples)
    before = weights_of(job)
    list(loop.fit(job, examples, train_params))
    moved = torch.cat([(value - before[name]).flatten() for name, value in weights_of(job).items()])
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)


def test_smoothing_and_class_weights_are_in_the_training_loss_only(params: Params) -> None:
    """The learning rate changes nothing, so both losses are those of the first weights."""
    examples = make_examples()
    rare = [row for row in examples.rows("train").tolist() if row % 3 == 0][2:]
    splits = examples.splits.to_pylist()
    for row in rare:
        splits[row] = "test"
    examples = replace(examples, splits=columns.texts(splits))
    job = make_job(examples)
    train_params = override(
        params,
        lr=1e-30,
        weight_decay=0.0,
        epochs=1,
        label_smoothing=0.2,
        class_weights="balanced",
    )
    network = linear_copy(job.suffix)
    (record,) = loop.fit(job, examples, train_params)
    for split, loss, weights, smoothing in (
        ("train", record.train_loss, torch.tensor([16 / 6, 16 / 21, 16 / 21]), 0.2),
        ("val", record.val_loss, None, 0.0),
    ):
        rows = examples.rows(split)
        view = INDEX.view_of(0) if split == "train" else EVALUATION
        (values,) = next(Numbers(examples).batches([rows], view))
        expected = functional.cross_entropy(
            network(values),
            examples.labels[rows],
            weights,
            reduction="sum",
            label_smoothing=smoothing,
        ).item() / len(rows)
        assert loss == pytest.approx(expected, rel=1e-5), split


def linear_copy(suffix: nn.Module) -> nn.Module:
    copied = linear()
    copied.load_state_dict(suffix.state_dict())
    return copied


def test_a_batch_size_is_used_or_refused(params: Params) -> None:
    examples = make_examples(train=6)
    alone = override(params, batch_size=1, epochs=1)
    (record,) = loop.fit(make_job(examples), examples, alone)
    assert record.step == 5  # the last image joins the one before it
    with pytest.raises(PipelineError, match=r"train.batch_size=1 is too small, .* use 2 or more"):
        list(loop.fit(make_job(examples, with_batch_norm), examples, alone))


# ---- validations, and the end ----


def test_there_is_a_validation_every_few_steps_and_after_each_epoch(
    params: Params,
) -> None:
    examples = make_examples(train=20)
    train_params = override(params, batch_size=4, validate_every=2, epochs=2)  # of five steps
    history = list(loop.fit(make_job(examples), examples, train_params))
    assert [record.step for record in history] == [2, 4, 5, 6, 8, 10]
    assert [record.epoch for record in history] == [0.4, 0.8, 1, 1.2, 1.6, 2]


def test_it_stops_at_the_target_accuracy_in_the_middle_of_an_epoch_too(params: Params) -> None:
    examples = make_examples()
    train_params = override(params, target_accuracy=0.01, validate_every=1)
    (record,) = loop.fit(make_job(examples), examples, train_params)
    assert record.step == 1


def test_it_stops_when_patience_runs_out(params: Params) -> None:
    examples = make_examples()
    still = override(params, lr=1e-30, weight_decay=0.0, patience=2, epochs=30)
    assert len(list(loop.fit(make_job(examples), examples, still))) == 3


@pytest.mark.parametrize("number", [1, 2, 3])
def test_patience_and_plateau_patience_count_the_same_validations(
    root: Path, params: Params, number: int
) -> None:
    # The rate is too small to change a weight, so that no loss is lower than the first.
    still = {"lr": 1e-30, "weight_decay": 0.0, "epochs": 2 * number + 2}
    stopping = override(params, patience=number, **still)
    falling = override(params, schedule="plateau", plateau_patience=number, **still)
    stopped, _ = train_whole(stopping, linear)
    assert len(stopped) == 1 + number
    fallen, _ = train_whole(falling, linear)
    expected = [1e-30] * (1 + number) + [1e-31] * number + [1e-32]
    assert [record.lr for record in fallen] == pytest.approx(expected, rel=1e-6, abs=0)
    for stop in range(1, 2 * number + 2):  # a killed training remembers how many were stale
        Checkpoint("run").remove()
        assert train_killed(falling, linear, stop)[0] == fallen
    for stop in range(1, number + 1):
        Checkpoint("run").remove()
        assert train_killed(stopping, linear, stop)[0] == stopped


def test_patience_counts_from_the_lowest_loss(params: Params) -> None:
    examples = make_examples()
    wild = override(params, optimizer="sgd", lr=3.0, patience=3, epochs=60)
    history = list(loop.fit(make_job(examples), examples, wild))
    lowest = history.index(best_record(history))
    assert len(history) == lowest + 1 + 3 < 60


def test_the_weights_of_the_best_validation_are_kept(params: Params) -> None:
    examples = make_examples()
    wild = override(params, optimizer="sgd", lr=3.0, epochs=6)
    job = make_job(examples, with_batch_norm)
    history = list(loop.fit(job, examples, wild))
    best = best_record(history)
    assert best != history[-1]  # or this test proves nothing
    rows = examples.rows("val")
    (values,) = next(source_of(job).batches([rows], EVALUATION))
    scores = job.suffix.eval()(values)
    loss = functional.cross_entropy(scores, examples.labels[rows]).item()
    assert loss == pytest.approx(best.val_loss, rel=1e-5)


def test_one_class_in_train_is_refused(params: Params) -> None:
    examples = make_examples()
    examples.labels[examples.rows("train")] = 1
    with pytest.raises(PipelineError, match=r"training images are all of one class \(b\)"):
        list(loop.fit(make_job(examples), examples, override(params)))


def test_a_class_without_training_images_is_allowed(params: Params) -> None:
    examples = make_examples()
    examples.labels[examples.rows("train")] %= 2
    history = list(
        loop.fit(make_job(examples), examples, override(params, class_weights="balanced"))
    )
    assert all(math.isfinite(record.val_loss) for record in history)


@pytest.mark.parametrize("every", [None, 1])
def test_a_loss_that_is_not_finite_is_an_error(params: Params, every: int | None) -> None:
    examples = make_examples()
    train_params = override(params, optimizer="sgd", lr=1e38, validate_every=every)
    with pytest.raises(PipelineError, match=r"not finite in epoch \d: lower train.lr"):
        list(loop.fit(make_job(examples), examples, train_params))


def test_the_same_steps_in_half_precision(params: Params) -> None:
    examples = make_examples()
    job = make_job(examples, with_dropout)
    half = device.start(CPU.model_copy(update={"precision": "bf16-mixed"}))
    rounded = Job(job.suffix, job.suffix, frozenset(), job.source, INDEX, half)
    history = list(loop.fit(rounded, examples, override(params)))
    exact, _ = train_whole(override(params), with_dropout)
    assert history[-1].val_loss == pytest.approx(exact[-1].val_loss, rel=0.05)
    assert history != exact
