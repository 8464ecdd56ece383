"""The calls of Ray that dispatch parts, with machines that are functions."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from pipeline.distributed.cluster_task import Answer, ClusterTask

ADDRESS = "10.0.0.1"  # of all machines
Machine = Callable[[ClusterTask], Answer]  # may raise; raises NeverEnds if it does not answer


class RayError(Exception):
    """As Ray's."""


class RayTaskError(RayError):
    """As Ray's: the task raised an exception."""

    ip = ADDRESS


class NeverEnds(Exception):
    """A machine was lost, or is slow."""


@dataclass
class FakeRay:
    """A cluster whose machines get tasks in turn."""

    machines: Mapping[str, Machine]
    """By id; the first ones get the first tasks."""
    dead: set[str] = field(default_factory=set)
    cpus: float = 4
    cancelled: list[ClusterTask] = field(default_factory=list)
    exceptions: Any = field(
        default_factory=lambda: SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
    )
    _sent: int = 0

    def nodes(self) -> list[dict[str, Any]]:
        """As Ray describes them, with a head that has no cores."""
        head = {"NodeID": "head", "Alive": True, "Resources": {"memory": 1.0}}
        machines = [
            {"NodeID": name, "Alive": name not in self.dead, "Resources": {"CPU": self.cpus}}
            for name in self.machines
        ]
        return [node | {"NodeManagerAddress": ADDRESS} for node in (head, *machines)]

    def remote(self, **_: object) -> Callable[[object], "RemoteTask"]:
        """A function that runs on the machines."""
        return lambda _: RemoteTask(self)

    def wait(self, references: Sequence["Reference"], timeout: float) -> tuple[list[Any], None]:
        """Those that have ended."""
        time.sleep(min(timeout, 0.001))
        return [item for item in references if not isinstance(item.result, NeverEnds)], None

    def get(self, reference: "Reference") -> Answer:
        """What it returned or raised."""
        if isinstance(reference.result, Exception):
            raise reference.result
        return reference.result

    def cancel(self, reference: "Reference", force: bool) -> None:
        """Note it."""
        assert force
        self.cancelled.append(reference.task)

    def run(self, task: ClusterTask, refused: str) -> "Reference":
        """On the next machine that is there and not in `refused`."""
        names = [name for name in self.machines if name not in self.dead and name not in refused]
        self._sent += 1
        try:
            if not names:
                raise NeverEnds
            return Reference(task, self.machines[names[self._sent % len(names)]](task))
        except Exception as error:  # noqa: BLE001 - the queue is to tell them apart
            return Reference(task, error)


@dataclass(frozen=True)
class RemoteTask:
    """A function as Ray calls it."""

    ray: FakeRay
    refused: str = ""

    def options(self, label_selector: Mapping[str, str]) -> "RemoteTask":
        """For other machines than some."""
        ((label, text),) = label_selector.items()
        assert (label, text[:4], text[-1]) == ("ray.io/node-id", "!in(", ")")
        return RemoteTask(self.ray, text)

    def remote(self, task: ClusterTask) -> "Reference":
        """Run it."""
        return self.ray.run(task, self.refused)


@dataclass(frozen=True, eq=False)
class Reference:
    """A task that was sent, and its result or error."""

    task: ClusterTask
    result: Answer | Exception
