"""Optimizers, what each group of parameters gets, and how the learning rate changes."""

import math
from collections.abc import Callable
from typing import Any

from torch import nn, optim
from torch.optim import lr_scheduler

from pipeline.params import TrainParams


def make_optimizer(
    suffix: nn.Module, params: TrainParams, pretrained: frozenset[nn.Parameter]
) -> optim.Optimizer:
    """What `train.optimizer` names, over everything in the suffix.

    Args:
        pretrained: What came with weights, and learns `train.pretrained_lr` times as fast.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in suffix.named_parameters():
        lr = params.lr * (params.pretrained_lr if parameter in pretrained else 1)
        decay = params.weight_decay if _decays(name, parameter) else 0.0
        groups.setdefault((lr, decay), []).append(parameter)
    listed = [
        {"params": each, "lr": lr, "weight_decay": decay} for (lr, decay), each in groups.items()
    ]
    # The head's first: its learning rate is the one that is reported.
    listed.sort(key=lambda group: group["lr"] != params.lr)
    kinds: dict[str, Callable[..., optim.Optimizer]] = {
        "adam": optim.Adam,
        "adamw": optim.AdamW,
        "rmsprop": optim.RMSprop,
        "sgd": optim.SGD,
    }
    options: dict[str, Any] = {"momentum": params.momentum} if params.optimizer == "sgd" else {}
    return kinds[params.optimizer](listed, lr=params.lr, **options)


def _decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether it is a layer's weight: no norm's, no bias or table of them, scale, or position."""
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
            self._by_loss = lr_scheduler.ReduceLROnPlateau(
                optimizer, patience=params.plateau_patience
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
        """As JSON knows it."""
        parts = [self._by_step, *([self._by_loss] if self._by_loss else [])]
        return [part.state_dict() for part in parts]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Go on from what `state` gave."""
        self._by_step.load_state_dict(state[0])
        if self._by_loss is not None:
            self._by_loss.load_state_dict(state[1])


def _factor(step: int, warmup: int, total: int, cosine: bool) -> float:
    """Of the learning rate in a step, counted from 0."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if not cosine:
        return 1.0
    return (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1))) / 2
