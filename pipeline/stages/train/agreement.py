"""What processes that train together, on several machines, must have in common."""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from pipeline.core import file_digests, source_code
from pipeline.core.errors import PipelineError
from pipeline.images import memo
from pipeline.network import device
from pipeline.network.feature_store import INDEX
from pipeline.params import Params
from pipeline.stages.train.setup import LIBRARIES, MODULES, SECTIONS

DIGITS = 12  # of a digest, in messages


def check_agreement(fabric: Fabric, params: Params, features: Path) -> None:
    """Refuse processes that would train something else than the others, in each of them.

    Raises:
        PipelineError: it has the first difference, and the machines.
    """
    if fabric.world_size == 1:
        return
    facts = os.uname().nodename, describe_process(params, features, fabric.device)
    gathered: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(gathered, facts)
    compare(gathered)


def describe_process(params: Params, features: Path, where: torch.device) -> dict[str, object]:
    """What decides the bytes of a training in this process, by name."""
    names = [name for name in params.flat() if name.partition(".")[0] in SECTIONS]
    return {
        **{name: params.flat()[name] for name in names},
        "the code": source_code.digest(*MODULES)[:DIGITS],
        **{f"the version of {name}": importlib.metadata.version(name) for name in LIBRARIES},
        features.as_posix(): _digest(
            [file_digests.sha256(features / INDEX)]
            + [f"{path.name} {path.stat().st_size}" for path in sorted(features.iterdir())]
        ),
        **_hardware(where),
    }


def _hardware(where: torch.device) -> dict[str, object]:
    if where.type != "cpu":
        return {"the type of GPU": _digest(device.arithmetic(where))}
    return {
        "the type of processor": memo.on_this_machine("")[:DIGITS],
        "the number of threads (OMP_NUM_THREADS)": torch.get_num_threads(),
    }


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:DIGITS]


def compare(processes: Sequence[tuple[str, Mapping[str, object]]]) -> None:
    """Raise PipelineError if the facts of processes, each with its host's name, differ."""
    first_host, first = processes[0]
    for rank, (host, facts) in enumerate(processes):
        for name, value in first.items():
            if facts[name] != value:
                raise PipelineError(
                    f"the processes of this training differ in {name}: {value} in process 0 on "
                    f"{first_host}, {facts[name]} in process {rank} on {host}; all need the same "
                    "commit, params.yaml, environment, data/features and type of hardware"
                )
