from typing import Any

import pytest
import torch
from torch import nn, optim
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.vision_transformer import VisionTransformer

from pipeline.params import Params, TrainParams, with_overrides
from pipeline.stages.train.optimizer import Schedule, make_optimizer

STEPS = 10  # per epoch


def with_(params: Params, **overrides: object) -> TrainParams:
    named = {f"train.{name}": value for name, value in overrides.items()}
    return with_overrides(params, {"train.epochs": 4, "train.lr": 0.1} | named).train


def network() -> nn.Module:
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LayerNorm(5), nn.Linear(4, 2))
    return nn.Sequential(*layers)


def rates(params: Params, losses: list[float] | None = None, **overrides: object) -> list[float]:
    """The learning rate of every step, in four epochs, and after the last."""
    chosen = with_(params, **overrides)
    optimizer = make_optimizer(nn.Linear(2, 2), chosen, frozenset())
    schedule = Schedule(optimizer, chosen, STEPS)
    found = []
    for epoch in range(chosen.epochs):
        for _ in range(STEPS):
            found.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            schedule.after_step()
        schedule.after_validation(losses[epoch] if losses else 1.0)
    return [*found, float(optimizer.param_groups[0]["lr"])]


def groups_by_parameter(made: optim.Optimizer) -> dict[nn.Parameter, dict[str, Any]]:
    return {each: group for group in made.param_groups for each in group["params"]}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", optim.Adam), ("adamw", optim.AdamW), ("rmsprop", optim.RMSprop), ("sgd", optim.SGD)],
)
def test_optimizers_go_by_name(params: Params, name: str, kind: type) -> None:
    chosen = with_(params, optimizer=name, weight_decay=0.5)
    made = make_optimizer(nn.Linear(2, 2), chosen, frozenset())
    assert type(made) is kind
    assert made.param_groups[0]["lr"] == 0.1


def test_momentum_is_of_sgd(params: Params) -> None:
    made = {
        name: make_optimizer(network(), with_(params, optimizer=name, momentum=0.7), frozenset())
        for name in ("sgd", "rmsprop")
    }
    assert made["sgd"].param_groups[0]["momentum"] == 0.7
    assert made["rmsprop"].param_groups[0]["momentum"] == 0


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_weights_decay_and_norms_and_biases_do_not(params: Params, name: str) -> None:
    suffix = network()
    made = make_optimizer(suffix, with_(params, optimizer=name, weight_decay=0.5), frozenset())
    found = groups_by_parameter(made)
    decays = {key: found[value]["weight_decay"] for key, value in suffix.named_parameters()}
    assert {key for key, decay in decays.items() if decay} == {"0.weight", "3.weight"}
    assert set(decays.values()) == {0.0, 0.5}


@pytest.mark.parametrize("times", [0.1, 0.0, 5.0])
def test_what_is_pretrained_learns_at_a_rate_of_its_own_and_the_heads_is_first(
    params: Params, times: float
) -> None:
    suffix = network()
    body = frozenset(suffix[0].parameters())  # type: ignore[index]
    made = make_optimizer(suffix, with_(params, pretrained_lr=times), body)
    found = groups_by_parameter(made)
    for value in suffix.parameters():
        assert found[value]["lr"] == pytest.approx(0.1 * times if value in body else 0.1)
    assert made.param_groups[0]["lr"] == 0.1


def test_every_schedule_keeps_the_proportion_of_the_groups(params: Params) -> None:
    for name in ("constant", "cosine", "one-cycle", "plateau"):
        suffix = network()
        body = frozenset(suffix[0].parameters())  # type: ignore[index]
        chosen = with_(params, schedule=name, weight_decay=0.0)
        made = make_optimizer(suffix, chosen, body)
        schedule = Schedule(made, chosen, STEPS)
        for _ in range(25):
            made.step()
            schedule.after_step()
        head, other = (float(group["lr"]) for group in made.param_groups)
        assert other == pytest.approx(0.1 * head), name


def test_a_constant_rate_does_not_change(params: Params) -> None:
    assert set(rates(params)) == {0.1}


def test_a_cosine_falls_to_nothing(params: Params) -> None:
    found = rates(params, schedule="cosine")
    assert found[0] == 0.1
    assert found[20] == pytest.approx(0.05)
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(0)


def test_one_cycle_rises_to_the_rate_and_falls_below_where_it_began(params: Params) -> None:
    found = rates(params, schedule="one-cycle")
    assert max(found) == pytest.approx(0.1)
    assert 0 < found.index(max(found)) < 20
    assert found[39] < found[0] < 0.01


@pytest.mark.parametrize("schedule", ["constant", "cosine", "plateau"])
def test_a_warm_up_rises_in_a_straight_line(params: Params, schedule: str) -> None:
    found = rates(params, [4, 3, 2, 1], schedule=schedule, warmup_epochs=1.5)
    assert found[:15] == pytest.approx([0.1 * (step + 1) / 16 for step in range(15)])
    assert found[15] == pytest.approx(0.1)


def test_a_plateau_takes_the_rate_to_a_tenth(params: Params) -> None:
    found = rates(
        params, [1.0, 0.9, 0.9, 0.9, 0.5], schedule="plateau", plateau_patience=1, epochs=5
    )
    assert found[::STEPS] == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle", "plateau"])
def test_the_shortest_training_there_is(params: Params, schedule: str) -> None:
    chosen = with_(params, schedule=schedule, epochs=1)
    optimizer = make_optimizer(nn.Linear(2, 2), chosen, frozenset())
    made = Schedule(optimizer, chosen, 1)
    optimizer.step()
    made.after_step()
    made.after_validation(1.0)
    assert torch.isfinite(torch.tensor(optimizer.param_groups[0]["lr"]))


def test_tables_of_biases_scales_and_positions_do_not_decay(params: Params) -> None:
    swin = models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4])
    vit = VisionTransformer(32, 16, 2, 2, 32, 64)
    convnext = models.ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)])
    for network in (swin, vit, convnext):
        made = make_optimizer(network, with_(params, weight_decay=0.5), frozenset())
        decayed = {
            id(one) for each in made.param_groups if each["weight_decay"] for one in each["params"]
        }
        weights = {
            id(value)
            for layer in network.modules()
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.MultiheadAttention)
            for name, value in layer.named_parameters()
            if "weight" in name
        }
        assert decayed == weights
