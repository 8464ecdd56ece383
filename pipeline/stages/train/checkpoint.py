"""The checkpoint of a training: one file per fingerprint under .cache/train.

A killed training continues from it. It has tensors and JSON, and no pickles, and a digest that is
checked when it is read. Each epoch replaces it in one rename; it is removed when the training has
ended.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.core import atomic, project
from pipeline.core.terminal import warn
from pipeline.network import tensors, weights

MAX_CHECKPOINTS = 8  # of trainings that never ended; the oldest are removed first
SYNC_SECONDS = 5  # between two: an epoch of a head takes less time than a sync
MIN_AGE = 3600  # seconds; a younger one may be of a running training
FILE = "state.safetensors"


@dataclass(frozen=True)
class CheckpointState:
    """The state of a training at the end of an epoch."""

    tensors: Mapping[str, Tensor]
    """By name."""
    facts: Mapping[str, Any]
    """Values that JSON can store."""


class Checkpoint:
    """The checkpoint of one training."""

    def __init__(self, fingerprint: str) -> None:
        self._folder = project.cache() / "train" / fingerprint
        self._synced = -math.inf  # when a state was last synced to disk

    def save(self, state: CheckpointState) -> None:
        """Replace the saved state, atomically."""
        is_due = time.monotonic() > self._synced + SYNC_SECONDS
        with atomic.replacing(self._folder / FILE, durable=is_due) as staged:
            facts = json.dumps(dict(state.facts))
            tensors.write(staged, state.tensors, f"{_digest(state.tensors, facts)} {facts}")
        self._synced = time.monotonic() if is_due else self._synced
        _prune(self._folder.parent)

    def load(self) -> CheckpointState | None:
        """The state saved last, or None. A damaged file is removed, with a warning."""
        path = self._folder / FILE
        try:
            return _read(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError, ValueError, OSError):
            warn(f"the checkpoint {path} is damaged: the training begins again")
            self.remove()
            return None

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _read(path: Path) -> CheckpointState:
    with safe_open(path, "pt") as opened:
        digest, _, facts = (opened.metadata() or {})[tensors.NOTE].partition(" ")
        values = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if digest != _digest(values, facts):
        raise ValueError("it has other values than were saved")
    return CheckpointState(values, json.loads(facts))


def _digest(values: Mapping[str, Tensor], facts: str) -> str:
    return hashlib.sha256(f"{weights.digest(values)} {facts}".encode()).hexdigest()


def _prune(stage: Path) -> None:
    runs = sorted((path for path in stage.iterdir() if path.is_dir()), key=atomic.modified_time)
    for path in runs[:-MAX_CHECKPOINTS]:
        if time.time() - atomic.modified_time(path) > MIN_AGE:
            shutil.rmtree(path, ignore_errors=True)
