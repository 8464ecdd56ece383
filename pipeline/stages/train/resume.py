"""Save a training to its checkpoint, and restore it."""

from dataclasses import asdict
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from pipeline.core.history import Record
from pipeline.stages.train.checkpoint import Checkpoint, CheckpointState
from pipeline.stages.train.state import Training


def save(run: Training, checkpoint: Checkpoint) -> None:
    """Save everything that decides how `run` continues."""
    fabric = run.job.fabric
    optimizer = run.raw_optimizer.state_dict()
    tensors = {f"model.{name}": value for name, value in run.job.suffix.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in run.best.items()}
    tensors |= {"order": run.order.get_state(), "chance": _gather(fabric, torch.get_rng_state())}
    if fabric.device.type == "cuda":
        tensors["chance.cuda"] = _gather(fabric, torch.cuda.get_rng_state())
    for number, values in optimizer["state"].items():
        tensors |= {
            f"optimizer.{number}.{name}": value
            for name, value in values.items()
            if value is not None
        }
    scaler: Any = getattr(fabric.strategy.precision, "scaler", None)  # only with 16-mixed
    facts = {
        "scaler": scaler.state_dict() if scaler else None,
        "groups": optimizer["param_groups"],
        "schedule": run.schedule.state(),
        "epoch": run.epoch,
        "step": run.step,
        "stale": run.stale,
        "ended": run.ended,
        "history": [asdict(record) for record in run.history],
    }
    if fabric.is_global_zero:
        checkpoint.save(CheckpointState(tensors, facts))


def _gather(fabric: Fabric, state: Tensor) -> Tensor:
    """The random states, uint8 (n,), of all devices: (devices, n)."""
    rows = torch.zeros(fabric.world_size, len(state), dtype=torch.int32, device=fabric.device)
    rows[fabric.global_rank] = state.to(rows)
    total: Any = fabric.all_reduce(rows, reduce_op="sum")
    states: Tensor = total.cpu().byte()
    return states


def restore(run: Training, state: CheckpointState | None) -> None:
    """Set `run`, which has not begun, to `state`; None changes nothing."""
    if state is None:
        return
    facts = state.facts
    run.job.suffix.load_state_dict(_with_prefix(state, "model."))
    run.best = {
        name: value.to(run.job.fabric.device)
        for name, value in _with_prefix(state, "best.").items()
    }
    of_optimizer: dict[int, dict[str, Tensor]] = {}
    for name, value in _with_prefix(state, "optimizer.").items():
        number, _, key = name.partition(".")
        of_optimizer.setdefault(int(number), {})[key] = value
    run.raw_optimizer.load_state_dict({"state": of_optimizer, "param_groups": facts["groups"]})
    run.schedule.restore(facts["schedule"])
    if facts["scaler"]:
        scaler: Any = run.job.fabric.strategy.precision
        scaler.scaler.load_state_dict(facts["scaler"])
    run.order.set_state(state.tensors["order"])
    rank = run.job.fabric.global_rank
    torch.set_rng_state(state.tensors["chance"][rank].clone())  # torch ignores a view's offset
    if "chance.cuda" in state.tensors:
        torch.cuda.set_rng_state(state.tensors["chance.cuda"][rank].clone())
    run.epoch, run.step, run.stale = facts["epoch"], facts["step"], facts["stale"]
    run.ended = facts["ended"]
    run.history = [Record(**record) for record in facts["history"]]


def _with_prefix(state: CheckpointState, prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in state.tensors.items()
        if name.startswith(prefix)
    }
