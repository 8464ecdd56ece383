from typing import Any

import pytest
import torch
from torch import nn, optim
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.vision_transformer import VisionTransformer

from pipeline.params import Params, TrainParams, with_overrides
from pipeline.stages.train.optimizer import Schedule, make_optimizer, without_compiler

STEPS = 10  # per epoch


def override(params: Params, **overrides: object) -> TrainParams:
    named = {f"train.{name}": value for name, value in overrides.items()}
    return with_overrides(params, {"train.epochs": 4, "train.lr": 0.1} | named).train


def network() -> nn.Module:
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LayerNorm(5), nn.Linear(4, 2))
    return nn.Sequential(*layers)


def rates(params: Params, losses: list[float] | None = None, **overrides: object) -> list[float]:
    """The learning rate of every step, in four epochs, and after the last."""
    train_params = override(params, **overrides)
    optimizer = make_optimizer(nn.Linear(2, 2), train_params, frozenset())
    schedule = Schedule(optimizer, train_params, STEPS)
    values = []
    for epoch in range(train_params.epochs):
        for _ in range(STEPS):
            values.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            schedule.after_step()
        schedule.after_validation(losses[epoch] if losses else 1.0)
    return [*values, float(optimizer.param_groups[0]["lr"])]


def groups_by_parameter(optimizer: optim.Optimizer) -> dict[nn.Parameter, dict[str, Any]]:
    return {value: group for group in optimizer.param_groups for value in group["params"]}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", optim.Adam), ("adamw", optim.AdamW), ("rmsprop", optim.RMSprop), ("sgd", optim.SGD)],
)
def test_the_optimizer_is_the_one_named(params: Params, name: str, kind: type) -> None:
    train_params = override(params, optimizer=name, weight_decay=0.5)
    optimizer = make_optimizer(nn.Linear(2, 2), train_params, frozenset())
    assert type(optimizer).__base__ is kind
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_only_sgd_has_momentum(params: Params) -> None:
    optimizers = {
        name: make_optimizer(network(), override(params, optimizer=name, momentum=0.7), frozenset())
        for name in ("sgd", "rmsprop")
    }
    assert optimizers["sgd"].param_groups[0]["momentum"] == 0.7
    assert optimizers["rmsprop"].param_groups[0]["momentum"] == 0


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_weights_decay_and_norms_and_biases_do_not(params: Params, name: str) -> None:
    suffix = network()
    optimizer = make_optimizer(
        suffix, override(params, optimizer=name, weight_decay=0.5), frozenset()
    )
    groups = groups_by_parameter(optimizer)
    decays = {key: groups[value]["weight_decay"] for key, value in suffix.named_parameters()}
    assert {key for key, decay in decays.items() if decay} == {"0.weight", "3.weight"}
    assert set(decays.values()) == {0.0, 0.5}


@pytest.mark.parametrize("times", [0.1, 0.0, 5.0])
def test_pretrained_parameters_have_their_own_rate_and_the_head_is_first(
    params: Params, times: float
) -> None:
    suffix = network()
    body = frozenset(suffix[0].parameters())  # type: ignore[index]
    optimizer = make_optimizer(suffix, override(params, pretrained_lr=times), body)
    groups = groups_by_parameter(optimizer)
    for value in suffix.parameters():
        assert groups[value]["lr"] == pytest.approx(0.1 * times if value in body else 0.1)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_every_schedule_keeps_the_proportion_of_the_groups(params: Params) -> None:
    for name in ("constant", "cosine", "one-cycle", "plateau"):
        suffix = network()
        body = frozenset(suffix[0].parameters())  # type: ignore[index]
        train_params = override(params, schedule=name, weight_decay=0.0)
        optimizer = make_optimizer(suffix, train_params, body)
        schedule = Schedule(optimizer, train_params, STEPS)
        for _ in range(25):
            optimizer.step()
            schedule.after_step()
        head, other = (float(group["lr"]) for group in optimizer.param_groups)
        assert other == pytest.approx(0.1 * head), name


def test_a_constant_rate_does_not_change(params: Params) -> None:
    assert set(rates(params)) == {0.1}


def test_a_cosine_falls_to_zero(params: Params) -> None:
    values = rates(params, schedule="cosine")
    assert values[0] == 0.1
    assert values[20] == pytest.approx(0.05)
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(0)


def test_one_cycle_rises_to_the_rate_and_falls_below_where_it_began(params: Params) -> None:
    values = rates(params, schedule="one-cycle")
    assert max(values) == pytest.approx(0.1)
    assert 0 < values.index(max(values)) < 20
    assert values[39] < values[0] < 0.01


@pytest.mark.parametrize("schedule", ["constant", "cosine", "plateau"])
def test_a_warm_up_is_linear(params: Params, schedule: str) -> None:
    values = rates(params, [4, 3, 2, 1], schedule=schedule, warmup_epochs=1.5)
    assert values[:15] == pytest.approx([0.1 * (step + 1) / 16 for step in range(15)])
    assert values[15] == pytest.approx(0.1)


def test_a_plateau_divides_the_rate_by_ten(params: Params) -> None:
    values = rates(
        params, [1.0, 0.9, 0.9, 0.9, 0.5], schedule="plateau", plateau_patience=2, epochs=5
    )
    assert values[::STEPS] == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_rate_falls_after_exactly_plateau_patience_stale_validations(
    params: Params, number: int
) -> None:
    plateau = {"schedule": "plateau", "plateau_patience": number, "epochs": 8}
    values = rates(params, [1.0] * 8, **plateau)[::STEPS]
    assert [value > 0.05 for value in values].index(False) == 1 + number


@pytest.mark.parametrize("lr", [0.1, 1e-9])
def test_a_loss_that_falls_a_little_is_no_plateau(params: Params, lr: float) -> None:
    losses = [1 - 1e-6 * epoch for epoch in range(6)]
    falling = {"schedule": "plateau", "plateau_patience": 1, "epochs": 6, "lr": lr}
    assert set(rates(params, losses, **falling)) == {lr}
    assert rates(params, [1.0] * 6, **falling)[-1] == pytest.approx(lr / 1e5, rel=1e-6, abs=0)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle", "plateau"])
def test_a_training_of_one_step(params: Params, schedule: str) -> None:
    train_params = override(params, schedule=schedule, epochs=1)
    optimizer = make_optimizer(nn.Linear(2, 2), train_params, frozenset())
    schedule_ = Schedule(optimizer, train_params, 1)
    optimizer.step()
    schedule_.after_step()
    schedule_.after_validation(1.0)
    assert torch.isfinite(torch.tensor(optimizer.param_groups[0]["lr"]))


def test_tables_of_biases_scales_and_positions_do_not_decay(params: Params) -> None:
    swin = models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4])
    vit = VisionTransformer(32, 16, 2, 2, 32, 64)
    convnext = models.ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)])
    for network in (swin, vit, convnext):
        optimizer = make_optimizer(network, override(params, weight_decay=0.5), frozenset())
        decayed = {
            id(value)
            for group in optimizer.param_groups
            if group["weight_decay"]
            for value in group["params"]
        }
        weights = {
            id(value)
            for layer in network.modules()
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.MultiheadAttention)
            for name, value in layer.named_parameters()
            if "weight" in name
        }
        assert decayed == weights


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW, optim.RMSprop, optim.SGD])
def test_without_the_compiler_a_step_is_the_same(kind: type[optim.Optimizer]) -> None:
    weights = []
    for optimizer_class in (kind, without_compiler(kind)):
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        make: Any = optimizer_class
        optimizer = make(layer.parameters(), lr=0.1, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            layer(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()
        weights.append(layer.weight)
    assert torch.equal(*weights)
