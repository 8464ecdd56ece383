"""The checkpoint of a training: one file per fingerprint under .cache/train.

A killed training continues from it. It has tensors and JSON, and no pickles. Each epoch replaces it
in one rename; it is removed when the training has ended.
"""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.core import atomic, project
from pipeline.network import tensors

MAX_CHECKPOINTS = 8  # of trainings that never ended; the oldest are removed first
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

    def save(self, state: CheckpointState) -> None:
        """Replace the saved state, atomically."""
        with atomic.replacing(self._folder / FILE) as staged:
            tensors.write(staged, state.tensors, json.dumps(dict(state.facts)))
        _prune(self._folder.parent)

    @property
    def exists(self) -> bool:
        """Whether a training was killed after its first epoch."""
        return (self._folder / FILE).exists()

    def load(self) -> CheckpointState | None:
        """The state saved last, or None. A damaged file is removed."""
        path = self._folder / FILE
        if not self.exists:
            return None
        try:
            with safe_open(path, "pt") as opened:
                facts = json.loads((opened.metadata() or {})[tensors.NOTE])
                values = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError, OSError):
            self.remove()
            return None
        return CheckpointState(values, facts)

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _prune(stage: Path) -> None:
    runs = sorted((path for path in stage.iterdir() if path.is_dir()), key=atomic.modified_time)
    for path in runs[:-MAX_CHECKPOINTS]:
        if time.time() - atomic.modified_time(path) > MIN_AGE:
            shutil.rmtree(path, ignore_errors=True)
