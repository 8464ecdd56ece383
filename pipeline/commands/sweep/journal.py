"""The trials that have ended, a line of JSON each, so that a killed sweep goes on."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

from filelock import FileLock, Timeout

from pipeline.commands.sweep.search_space import Value
from pipeline.core import project
from pipeline.core.errors import PipelineError
from pipeline.core.history import Record


class TrialState(StrEnum):
    """How a trial ended."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    """Stopped early, for others had been better at that time."""
    FAILED = "failed"


@dataclass(frozen=True)
class EndedTrial:
    """A trial that has ended."""

    number: int
    """From 0."""
    state: TrialState
    drawn: Mapping[str, Value]
    """What the sampler drew."""
    values: Mapping[str, Value]
    """All that it set, by dotted name, as trained with."""
    history: list[Record]
    began: int
    """Milliseconds since 1970."""
    ended: int
    reason: str = field(default="")
    """Why it failed."""

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Self:
        """What `asdict` gave."""
        history = [Record(**record) for record in line["history"]]
        return cls(**{**line, "state": TrialState(line["state"]), "history": history})


class Journal:
    """A file that only grows. What was being written when its process died is cut off.

    Whoever has it open is the only one: a sweep runs once at a time.
    """

    def __init__(self, key: str) -> None:
        self.path = project.cache() / "sweep" / key / "trials.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_suffix(".lock"), blocking=False, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise PipelineError(
                f"the same sweep is running already (it holds {self.path}): wait for it, or give "
                "another --seed"
            ) from error
        self._file = self.path.open("a+b")
        self.ended = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._lock.release()

    def _read(self) -> list[EndedTrial]:
        """All whole lines; what follows them is removed."""
        self._file.seek(0)
        found: list[EndedTrial] = []
        good = 0
        for line in self._file:
            try:
                each = EndedTrial.of(json.loads(line))
            except (ValueError, TypeError, KeyError):
                break
            if not line.endswith(b"\n") or each.number != len(found):
                break
            found.append(each)
            good += len(line)
        self._file.truncate(good)
        return found

    def add(self, one: EndedTrial) -> None:
        """Remember `one`, on disk before this returns."""
        self._file.write(json.dumps(asdict(one)).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.ended.append(one)
