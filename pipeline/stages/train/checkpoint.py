"""Where a killed training goes on: one file per run under .cache/train, found by fingerprint.

It holds tensors and JSON, so nothing is unpickled. It takes the place of the epoch before in one
rename, and goes when the training has ended well.
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

KEPT = 8  # of runs that were never ended; the least recently written go first
LIVE = 3600  # seconds since it was written, within which a run may still go on
FILE = "state.safetensors"


@dataclass(frozen=True)
class CheckpointState:
    """A training at the end of an epoch."""

    tensors: Mapping[str, Tensor]
    """By names of any kind."""
    facts: Mapping[str, Any]
    """What JSON can hold."""


class Checkpoint:
    """The place of one run's state."""

    def __init__(self, fingerprint: str) -> None:
        self._folder = project.cache() / "train" / fingerprint

    def save(self, state: CheckpointState) -> None:
        """Replace what was saved, whole or not at all."""
        with atomic.replacing(self._folder / FILE) as staged:
            tensors.write(staged, state.tensors, json.dumps(dict(state.facts)))
        _prune(self._folder.parent)

    @property
    def exists(self) -> bool:
        """Whether a run was killed after an epoch."""
        return (self._folder / FILE).exists()

    def load(self) -> CheckpointState | None:
        """What was saved last, or None. A file that is damaged is removed."""
        path = self._folder / FILE
        if not self.exists:
            return None
        try:
            with safe_open(path, "pt") as opened:
                facts = json.loads((opened.metadata() or {})[tensors.NOTE])
                found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError, OSError):
            self.remove()
            return None
        return CheckpointState(found, facts)

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _prune(stage: Path) -> None:
    runs = sorted((path for path in stage.iterdir() if path.is_dir()), key=atomic.modified_time)
    for path in runs[:-KEPT]:
        if time.time() - atomic.modified_time(path) > LIVE:
            shutil.rmtree(path, ignore_errors=True)
