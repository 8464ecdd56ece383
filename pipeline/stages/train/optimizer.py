"""Optimizers, their parameter groups, and learning rate schedules."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn, optim
from torch.optim import lr_scheduler

from pipeline.params import TrainParams


def make_optimizer(
    suffix: nn.Module, params: TrainParams, pretrained: frozenset[nn.Parameter]
) -> optim.Optimizer:
    """The optimizer `train.optimizer`, over all parameters of the suffix.

    Args:
        pretrained: Parameters that came with weights; their learning rate is multiplied by
            `train.pretrained_lr`.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in suffix.named_parameters():
        lr = params.lr * (params.pretrained_lr if parameter in pretrained else 1)
        decay = params.weight_decay if _decays(name, parameter) else 0.0
        groups.setdefault((lr, decay), []).append(parameter)
    options = [
        {"params": parameters, "lr": lr, "weight_decay": decay}
        for (lr, decay), parameters in groups.items()
    ]
    # The head's group first: history.csv has the learning rate of the first group.
    options.sort(key=lambda group: group["lr"] != params.lr)
    kinds: dict[str, type[optim.Optimizer]] = {
        "adam": optim.Adam,
        "adamw": optim.AdamW,
        "rmsprop": optim.RMSprop,
        "sgd": optim.SGD,
    }
    momentum = {"momentum": params.momentum} if params.optimizer == "sgd" else {}
    make: Callable[..., optim.Optimizer] = without_compiler(kinds[params.optimizer])
    return make(options, lr=params.lr, **momentum)


def without_compiler(optimizer: type[optim.Optimizer]) -> type[optim.Optimizer]:
    """The class without torch's preparations for compiling a step.

    They change nothing in a step that is not compiled, and import the compiler, which takes more
    than a second.
    """
    methods = {
        name: inspect.unwrap(getattr(optimizer, name))
        for name in ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")
    }
    methods["step"] = torch.no_grad()(methods["step"])
    return type(optimizer.__name__, (optimizer,), methods)


def _decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether it is the weight of a layer: not of a norm, no bias, scale or position table."""
    return parameter.ndim > 1 and name.endswith("weight")


class Schedule:
    """The learning rate of every group, changed after each step and each validation."""

    def __init__(
        self, optimizer: optim.Optimizer, params: TrainParams, steps_per_epoch: int
    ) -> None:
        total = steps_per_epoch * params.epochs
        warmup = round(params.warmup_epochs * steps_per_epoch)
        self._by_step: lr_scheduler.LRScheduler
        self._by_loss: lr_scheduler.ReduceLROnPlateau | None = None
        if params.schedule == "one-cycle":
            highest = [float(group["lr"]) for group in optimizer.param_groups]
            self._by_step = lr_scheduler.OneCycleLR(
                optimizer, highest, max(total, 2), cycle_momentum=False
            )
            return
        if params.schedule == "plateau":
            # torch waits for one stale validation more than its `patience`, and takes a loss that
            # is lower by less than `threshold` for stale; `train.patience` does neither.
            self._by_loss = lr_scheduler.ReduceLROnPlateau(
                optimizer, patience=params.plateau_patience - 1, threshold=0, eps=0
            )
            self._by_step = (
                lr_scheduler.LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup)
                if warmup
                else lr_scheduler.ConstantLR(optimizer, 1.0, 0)
            )
            return
        cosine = params.schedule == "cosine"
        self._by_step = lr_scheduler.LambdaLR(
            optimizer, lambda step: _factor(step, warmup, total, cosine)
        )

    def after_step(self) -> None:
        self._by_step.step()

    def after_validation(self, loss: float) -> None:
        if self._by_loss is not None:
            self._by_loss.step(loss)

    def state(self) -> list[dict[str, Any]]:
        """The state in values that JSON can store."""
        schedulers = [self._by_step, *([self._by_loss] if self._by_loss else [])]
        return [scheduler.state_dict() for scheduler in schedulers]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Load what `state` returned."""
        self._by_step.load_state_dict(state[0])
        if self._by_loss is not None:
            self._by_loss.load_state_dict(state[1])


def _factor(step: int, warmup: int, total: int, cosine: bool) -> float:
    """The factor of the learning rate in a step, counted from 0."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if not cosine:
        return 1.0
    return (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1))) / 2
