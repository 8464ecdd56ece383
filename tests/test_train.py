from pathlib import Path

import pytest
import torch
from test_features import run, with_

from pipeline import batches, model, train
from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.train import Epoch


def fitted(dataset: Path, settings: Params) -> tuple[train.Job, list[Epoch]]:
    folder = run(dataset, settings)
    examples = batches.read_examples(dataset / "split.csv")
    job = train.prepare(settings, examples, folder, dataset / "clean")
    return job, list(train.fit(job, examples, settings.train))


def weights_of(job: train.Job) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in job.network.state_dict().items()}


@pytest.mark.parametrize(
    ("trainable", "lr"), [("head", 0.02), ("features.17", 0.003), ("all", 0.01)]
)
def test_it_learns_and_twice_gives_the_same_weights(
    dataset: Path, settings: Params, trainable: str, lr: float
) -> None:
    chosen = with_(settings, model__trainable=trainable, train__epochs=12, train__lr=lr)
    job, history = fitted(dataset, chosen)
    again, repeated = fitted(dataset, chosen)
    assert history == repeated
    assert all(map(torch.equal, weights_of(job).values(), weights_of(again).values()))
    assert history[-1].train_loss < 0.6 * history[0].train_loss


def test_only_the_trainable_part_changes(dataset: Path, settings: Params) -> None:
    before = model.backbone(settings.model, settings.features.seed).network.state_dict()
    job, _ = fitted(dataset, settings)
    for name, value in weights_of(job).items():
        if not name.startswith("classifier.1."):
            assert torch.equal(value, before[name]), name


def test_the_network_ends_with_the_weights_of_the_best_epoch(
    dataset: Path, settings: Params
) -> None:
    wild = with_(settings, train__lr=3.0, train__epochs=6)
    job, history = fitted(dataset, wild)
    examples = batches.read_examples(dataset / "split.csv")
    rows = examples.rows("val")
    scores = batches.logits(job.suffix, job.source, rows, 8)
    loss = torch.nn.functional.cross_entropy(scores, examples.labels[rows]).item()
    best = min(history, key=lambda record: record.val_loss)
    assert loss == pytest.approx(best.val_loss, rel=1e-5)
    assert best.epoch < len(history)  # or this test proves nothing


def test_it_stops_at_the_target_accuracy(dataset: Path, settings: Params) -> None:
    _, history = fitted(dataset, with_(settings, train__target_accuracy=0.01))
    assert len(history) == 1


def test_a_loss_that_is_no_number_is_one_sentence(dataset: Path, settings: Params) -> None:
    with pytest.raises(PipelineError, match=r"no longer a number in epoch \d: lower train.lr"):
        fitted(dataset, with_(settings, train__optimizer="sgd", train__lr=1e38))


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_optimizers_go_by_name(settings: Params, name: str) -> None:
    chosen = with_(settings, train__optimizer=name, train__weight_decay=0.5).train
    made = train.make_optimizer(torch.nn.Linear(2, 2), chosen)
    assert type(made).__name__.lower() == name
    assert made.defaults["lr"] == chosen.lr
    assert made.defaults["weight_decay"] == 0.5


def test_the_fingerprint_follows_what_the_training_depends_on(
    dataset: Path, settings: Params
) -> None:
    cards = [
        fitted(dataset, with_(settings, train__epochs=1, **change))[0].card.fingerprint
        for change in ({}, {}, {"train__seed": 7}, {"evaluate__samples": 3})
    ]
    assert cards[0] == cards[1] == cards[3] != cards[2]


@pytest.mark.parametrize("trainable", ["head", "features.18", "features.17"])
def test_training_inside_the_loop_equals_training_from_the_cache(
    dataset: Path, settings: Params, trainable: str
) -> None:
    cached = with_(settings, model__trainable=trainable)
    inside = with_(cached, features__max_gigabytes=0.0)
    (one, history), (other, repeated) = fitted(dataset, cached), fitted(dataset, inside)
    assert history == repeated
    assert all(map(torch.equal, weights_of(one).values(), weights_of(other).values()))
