"""The loop alone, on networks of a few weights and inputs that are only numbers."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.core import history as records
from pipeline.core.errors import PipelineError
from pipeline.core.history import Record
from pipeline.network import device
from pipeline.network.examples import Examples
from pipeline.network.feature_store import Index
from pipeline.network.parallel_forward import Tensors
from pipeline.network.views import EVALUATION
from pipeline.params import DeviceParams, Params, TrainParams, with_overrides
from pipeline.stages.train import loop
from pipeline.stages.train.checkpoint import Checkpoint
from pipeline.stages.train.state import Job

CPU = DeviceParams(accelerator="cpu", precision="32-true", devices=1, compile=False)
OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "one-cycle", "plateau")
INDEX = Index(
    stored=True,
    why="",
    seed=1,
    augment="crop-flip",
    views=2,
    dtype="float32",
    precision="32-true",
    shapes=[[8]],
    prefix="frozen",
    images="",
)


def made_examples(count: int = 36, train: int = 21, classes: int = 3) -> Examples:
    """Classes take turns; after the training rows, every other one validates."""
    splits = ["train" if row < train else ("val", "test")[row % 2] for row in range(count)]
    labels = torch.arange(count) % classes
    return Examples(
        [f"{row:03}" for row in range(count)], labels, splits, list("abcdefg"[:classes])
    )


@dataclass
class Numbers:
    """A source which notes what it is asked for, and holds nothing of the test set."""

    examples: Examples
    asked: list[tuple[int, list[int]]] = field(default_factory=list)

    def batches(self, order: Sequence[Sequence[int]], view: int) -> Iterator[Tensors]:
        for rows in order:
            assert not set(rows) & set(self.examples.rows("test")), "a test image was asked for"
            self.asked.append((view, list(rows)))
            yield (torch.stack([self._of(row, view) for row in rows]),)

    def _of(self, row: int, view: int) -> Tensor:
        noise = torch.randn(8, generator=torch.Generator().manual_seed(100 * row + view))
        return noise + 2 * functional.one_hot(self.examples.labels[row], 8)

    def training(self) -> list[list[int]]:
        return [rows for _, rows in self.asked if self.examples.splits[rows[0]] == "train"]


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def linear() -> nn.Module:
    return nn.Linear(8, 3)


def job_of(examples: Examples, network: Any = linear) -> Job:
    torch.manual_seed(0)
    suffix = network()
    return Job(suffix, suffix, frozenset(), Numbers(examples), INDEX, device.start(CPU))


def with_(params: Params, **overrides: object) -> TrainParams:
    fast = {"train.epochs": 4, "train.batch_size": 8, "train.lr": 0.01}
    named = {f"train.{name}": value for name, value in overrides.items()}
    return with_overrides(params, fast | named).train


def asked(job: Job) -> Numbers:
    assert isinstance(job.source, Numbers)
    return job.source


def weights_of(job: Job) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in job.suffix.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def undisturbed(params: TrainParams, network: Any) -> tuple[list[Record], dict[str, Tensor]]:
    examples = made_examples()
    job = job_of(examples, network)
    return list(loop.fit(job, examples, params)), weights_of(job)


def resumed(params: TrainParams, network: Any, *stops: int) -> tuple[list[Record], Job]:
    """Train, but stop at these records, at the point a kill would: each before its epoch's save."""
    examples, saved = made_examples(), Checkpoint("run")
    for stop in stops:
        killed = loop.fit(job_of(examples, network), examples, params, saved)
        assert len(list(islice(killed, stop))) == stop
        killed.close()  # type: ignore[attr-defined]
        torch.manual_seed(stop)  # the next process has another state by chance
    job = job_of(examples, network)
    return list(loop.fit(job, examples, params, saved)), job


# ---- going on after a kill ----


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", [dropping, normed])
def test_a_killed_training_ends_with_the_same_bytes(
    root: Path, params: Params, optimizer: str, schedule: str, network: Any
) -> None:
    chosen = with_(params, optimizer=optimizer, schedule=schedule, plateau_patience=0)
    history, weights = undisturbed(chosen, network)
    again, job = resumed(chosen, network, 2, 4)
    assert again == history
    assert same(weights_of(job), weights)
    assert len(asked(job).training()) == 3  # batches of the last epoch alone


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
def test_so_it_does_with_every_other_option(
    root: Path, params: Params, options: dict[str, object]
) -> None:
    chosen = with_(params, **{"epochs": 5} | options)
    history, weights = undisturbed(chosen, dropping)
    again, job = resumed(chosen, dropping, min(3, len(history)), min(5, len(history)))
    assert again == history
    assert same(weights_of(job), weights)


def test_killed_after_its_last_epoch_it_runs_nothing_again(root: Path, params: Params) -> None:
    chosen = with_(params)
    examples, saved = made_examples(), Checkpoint("run")
    done = job_of(examples, dropping)
    history = list(loop.fit(done, examples, chosen, saved))
    job = job_of(examples, dropping)
    assert list(loop.fit(job, examples, chosen, saved)) == history
    assert asked(job).asked == []
    assert same(weights_of(job), weights_of(done))


def test_without_a_checkpoint_it_begins_anew(root: Path, params: Params) -> None:
    chosen = with_(params)
    examples = made_examples()
    list(loop.fit(job_of(examples), examples, chosen, Checkpoint("other")))
    job = job_of(examples)
    list(loop.fit(job, examples, chosen, Checkpoint("run")))
    assert len(asked(job).training()) == 3 * 4


# ---- steps ----


@pytest.mark.parametrize("train", [18, 21, 22, 24, 25])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_batches_that_are_accumulated_equal_one_batch(
    params: Params, train: int, weights: str
) -> None:
    examples = made_examples(40, train)
    options = {"optimizer": "sgd", "lr": 0.1, "class_weights": weights, "label_smoothing": 0.1}
    many, one = job_of(examples), job_of(examples)
    small = with_(params, batch_size=4, accumulate=3, **options)
    large = with_(params, batch_size=12, **options)
    history, whole = (list(loop.fit(many, examples, small)), list(loop.fit(one, examples, large)))
    assert [record.step for record in history] == [record.step for record in whole]
    for name, value in weights_of(one).items():
        assert torch.allclose(weights_of(many)[name], value, atol=1e-6, rtol=0), name
    for record, other in zip(history, whole, strict=True):
        assert record.train_loss == pytest.approx(other.train_loss, abs=1e-6)
        assert record.val_loss == pytest.approx(other.val_loss, abs=1e-6)


def test_an_epoch_shows_every_training_image_once_in_an_order_of_its_own(
    params: Params,
) -> None:
    examples = made_examples()
    job = job_of(examples)
    list(loop.fit(job, examples, with_(params)))
    rows = [row for batch in asked(job).training() for row in batch]
    epochs = [rows[start : start + 21] for start in range(0, len(rows), 21)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(21))] * 4
    assert len(set(map(tuple, epochs))) == 4


def test_views_take_turns_and_validation_sees_the_evaluation_view_of_its_own_images(
    params: Params,
) -> None:
    examples = made_examples()
    job = job_of(examples)
    list(loop.fit(job, examples, with_(params)))
    seen: dict[str, list[int]] = {"train": [], "val": []}
    for view, rows in asked(job).asked:
        (split,) = {examples.splits[row] for row in rows}
        if view not in seen[split][-1:]:
            seen[split].append(view)
    assert seen == {"train": [1, 2, 0, 1], "val": [EVALUATION]}


def test_the_seed_decides(params: Params) -> None:
    histories = [undisturbed(with_(params, seed=seed), dropping)[0] for seed in (1, 1, 2)]
    assert histories[0] == histories[1] != histories[2]


def test_gradients_are_clipped_to_their_norm(params: Params) -> None:
    """One step of plain gradient descent goes as far as the norm allows, times the rate."""
    examples = made_examples()
    chosen = with_(
        params,
        optimizer="sgd",
        momentum=0.0,
        weight_decay=0.0,
        lr=1.0,
        clip_norm=0.01,
        epochs=1,
        batch_size=21,
    )
    job = job_of(examples)
    before = weights_of(job)
    list(loop.fit(job, examples, chosen))
    moved = torch.cat([(value - before[name]).flatten() for name, value in weights_of(job).items()])
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)


def test_smoothing_and_class_weights_are_in_the_training_loss_alone(params: Params) -> None:
    """With a learning rate that moves nothing, both losses are those of the first weights."""
    examples = made_examples()
    rare = [row for row in examples.rows("train") if row % 3 == 0][2:]
    for row in rare:
        examples.splits[row] = "test"
    job = job_of(examples)
    chosen = with_(
        params,
        lr=1e-30,
        weight_decay=0.0,
        epochs=1,
        label_smoothing=0.2,
        class_weights="balanced",
    )
    network = linear_copy(job.suffix)
    (record,) = loop.fit(job, examples, chosen)
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


def test_a_batch_size_is_taken_as_it_is_or_refused(params: Params) -> None:
    examples = made_examples(train=6)
    alone = with_(params, batch_size=1, epochs=1)
    (record,) = loop.fit(job_of(examples), examples, alone)
    assert record.step == 5  # the last image joins the one before it
    with pytest.raises(PipelineError, match=r"train.batch_size=1 is too small, .* use 2 or more"):
        list(loop.fit(job_of(examples, normed), examples, alone))


# ---- validations, and the end ----


def test_validations_come_every_so_many_steps_and_at_the_end_of_an_epoch(
    params: Params,
) -> None:
    examples = made_examples(train=20)
    chosen = with_(params, batch_size=4, validate_every=2, epochs=2)  # of five steps
    found = list(loop.fit(job_of(examples), examples, chosen))
    assert [record.step for record in found] == [2, 4, 5, 6, 8, 10]
    assert [record.epoch for record in found] == [0.4, 0.8, 1, 1.2, 1.6, 2]


def test_it_stops_at_the_target_accuracy_in_the_middle_of_an_epoch_too(params: Params) -> None:
    examples = made_examples()
    chosen = with_(params, target_accuracy=0.01, validate_every=1)
    (record,) = loop.fit(job_of(examples), examples, chosen)
    assert record.step == 1


def test_it_stops_when_patience_is_over(params: Params) -> None:
    examples = made_examples()
    still = with_(params, lr=1e-30, weight_decay=0.0, patience=2, epochs=30)
    assert len(list(loop.fit(job_of(examples), examples, still))) == 3


def test_patience_counts_from_the_lowest_loss(params: Params) -> None:
    examples = made_examples()
    wild = with_(params, optimizer="sgd", lr=3.0, patience=3, epochs=60)
    history = list(loop.fit(job_of(examples), examples, wild))
    lowest = history.index(records.best(history))
    assert len(history) == lowest + 1 + 3 < 60


def test_the_weights_of_the_best_validation_stand(params: Params) -> None:
    examples = made_examples()
    wild = with_(params, optimizer="sgd", lr=3.0, epochs=6)
    job = job_of(examples, normed)
    history = list(loop.fit(job, examples, wild))
    best = records.best(history)
    assert best != history[-1]  # or this test proves nothing
    rows = examples.rows("val")
    (values,) = next(asked(job).batches([rows], EVALUATION))
    scores = job.suffix.eval()(values)
    loss = functional.cross_entropy(scores, examples.labels[rows]).item()
    assert loss == pytest.approx(best.val_loss, rel=1e-5)


def test_one_class_in_train_is_told(params: Params) -> None:
    examples = made_examples()
    examples.labels[examples.rows("train")] = 1
    with pytest.raises(PipelineError, match=r"training images are all of one class \(b\)"):
        list(loop.fit(job_of(examples), examples, with_(params)))


def test_a_class_that_validates_alone_costs_nothing(params: Params) -> None:
    examples = made_examples()
    examples.labels[examples.rows("train")] %= 2
    history = list(loop.fit(job_of(examples), examples, with_(params, class_weights="balanced")))
    assert all(math.isfinite(record.val_loss) for record in history)


@pytest.mark.parametrize("every", [None, 1])
def test_a_loss_that_is_no_number_is_told(params: Params, every: int | None) -> None:
    examples = made_examples()
    chosen = with_(params, optimizer="sgd", lr=1e38, validate_every=every)
    with pytest.raises(PipelineError, match=r"not finite in epoch \d: lower train.lr"):
        list(loop.fit(job_of(examples), examples, chosen))


def test_the_same_steps_in_half_precision(params: Params) -> None:
    examples = made_examples()
    job = job_of(examples, dropping)
    half = device.start(CPU.model_copy(update={"precision": "bf16-mixed"}))
    rounded = Job(job.suffix, job.suffix, frozenset(), job.source, INDEX, half)
    history = list(loop.fit(rounded, examples, with_(params)))
    exact, _ = undisturbed(with_(params), dropping)
    assert history[-1].val_loss == pytest.approx(exact[-1].val_loss, rel=0.05)
    assert history != exact
