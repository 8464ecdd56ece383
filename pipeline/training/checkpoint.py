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
from safetensors.torch import save_file
from torch import Tensor

from pipeline import atomic, project

KEPT = 8  # of runs that were never ended; the least recently written go first
LIVE = 3600  # seconds since it was written, within which a run may still go on
FILE = "state.safetensors"
FACTS = "facts"  # the one key of the file's metadata


@dataclass(frozen=True)
class State:
    """A training at the end of an epoch."""

    tensors: Mapping[str, Tensor]
    """By names of any kind."""
    facts: Mapping[str, Any]
    """What JSON can hold."""


class Checkpoint:
    """The place of one run's state."""

    def __init__(self, fingerprint: str) -> None:
        self._folder = project.cache() / "train" / fingerprint

    def save(self, state: State) -> None:
        """Replace what was saved, whole or not at all."""
        tensors = {name: value.detach().cpu().contiguous().clone()
                   for name, value in state.tensors.items()}  # fmt: skip
        with atomic.replacing(self._folder / FILE) as staged:
            save_file(tensors, staged, {FACTS: json.dumps(dict(state.facts))})
        _prune(self._folder.parent)

    def load(self) -> State | None:
        """What was saved last, or None. A file that is damaged is removed."""
        path = self._folder / FILE
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as opened:
                facts = json.loads((opened.metadata() or {})[FACTS])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError, OSError):
            self.remove()
            return None
        return State(tensors, facts)

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _prune(stage: Path) -> None:
    runs = sorted((path for path in stage.iterdir() if path.is_dir()), key=_written)
    for path in runs[:-KEPT]:
        if time.time() - _written(path) > LIVE:
            shutil.rmtree(path, ignore_errors=True)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process pruned it
        return 0.0
