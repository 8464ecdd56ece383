"""The state of a training."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn, optim

from pipeline.core.history import Record
from pipeline.network.feature_store import Index, Source
from pipeline.params import TrainParams
from pipeline.stages.train.optimizer import Schedule, make_optimizer


@dataclass(frozen=True)
class Job:
    """Everything that the loop needs."""

    network: nn.Module
    """The whole network, which the suffix is a part of."""
    suffix: nn.Module
    pretrained: frozenset[nn.Parameter]
    """Parameters that came with weights."""
    source: Source
    index: Index
    fabric: Fabric
    compiled: bool = False


@dataclass
class Training:
    """The state of a training; all of it but `job` and `params` goes into the checkpoint."""

    job: Job
    params: TrainParams
    module: Any
    """The suffix, wrapped by fabric."""
    optimizer: Any
    raw_optimizer: optim.Optimizer
    schedule: Schedule
    order: torch.Generator
    best: dict[str, Tensor]
    epoch: int = 0
    """Epochs that have ended."""
    step: int = 0
    history: list[Record] = field(default_factory=list)
    stale: int = 0
    """Validations since the lowest loss."""
    ended: bool = False

    @property
    def lowest(self) -> float:
        return min((record.val_loss for record in self.history), default=math.inf)


def start(job: Job, params: TrainParams, steps_per_epoch: int) -> Training:
    """A training before its first step."""
    torch.manual_seed(params.seed + job.fabric.global_rank)  # dropout differs between devices
    optimizer = make_optimizer(job.suffix, params, job.pretrained)
    schedule = Schedule(optimizer, params, steps_per_epoch)
    compiled: Any = torch.compile(job.suffix) if job.compiled else job.suffix
    module, wrapped = job.fabric.setup(compiled, optimizer)
    order = torch.Generator().manual_seed(params.seed)
    return Training(
        job, params, module, wrapped, optimizer, schedule, order, weights_of(job.suffix)
    )


def weights_of(suffix: nn.Module) -> dict[str, Tensor]:
    """A copy of the suffix's weights, with the statistics of its BatchNorms."""
    return {name: value.detach().clone() for name, value in suffix.state_dict().items()}
