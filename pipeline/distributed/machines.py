"""The machines of a cluster: which of them can compute parts, and whether any is left."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.errors import PipelineError
from pipeline.distributed.ray_connection import ClusterLostError, Connection

CHECK_SECONDS = 10  # between two looks at the cluster
PATIENCE_SECONDS = 60  # without a machine, until the stage computes the rest itself
MAX_FAILED_CHECKS = 2  # of the head, in turn; Ray ends this process a minute after its loss
Node = Mapping[str, Any]  # as ray.nodes() describes it


@dataclass(frozen=True)
class Demand:
    """What a part needs of a machine."""

    cpus: int
    gpus: int

    def fits(self, node: Node) -> bool:
        """Whether a machine is there and large enough."""
        resources = node["Resources"]
        is_large = resources.get("CPU", 0) >= self.cpus and resources.get("GPU", 0) >= self.gpus
        return bool(node["Alive"]) and is_large


def smallest_demand(nodes: list[Node], gpu: bool) -> tuple[Demand, int]:
    """The cores and GPUs of the smallest machine, so that a part fits on each; and their number.

    Raises:
        PipelineError: no machine has a core.
    """
    workers = [node["Resources"] for node in nodes if Demand(1, 0).fits(node)]
    if not workers:
        raise PipelineError("no machine of the cluster has a core for work: add workers to it")
    cpus = min(int(worker["CPU"]) for worker in workers)
    gpus = min(int(worker.get("GPU", 0)) for worker in workers)
    return Demand(cpus, gpus if gpu else 0), len(workers)


@dataclass
class Machines:
    """The machines that can compute parts."""

    connection: Connection
    demand: Demand
    refused: set[str] = field(default_factory=set)
    """The ids of those that get no more parts."""
    _checked: float = field(default_factory=time.monotonic)
    _seen: float = field(default_factory=time.monotonic)
    _failed_checks: int = 0

    def ids(self) -> set[str]:
        """Of all that are there, large enough and not refused."""
        return {node["NodeID"] for node in self._nodes() if self.demand.fits(node)} - self.refused

    def at(self, address: str) -> set[str]:
        """The ids of those with an IP address."""
        return {node["NodeID"] for node in self._nodes() if node["NodeManagerAddress"] == address}

    def check(self) -> None:
        """Look for the head and for a machine, if some time has gone by.

        Raises:
            ClusterLostError: the head is gone, or there was no machine for a minute.
        """
        now = time.monotonic()
        if now - self._checked < CHECK_SECONDS:
            return
        self._checked = now
        if not self._sees_head():
            return
        if self.ids():
            self._seen = now
        elif now - self._seen >= PATIENCE_SECONDS:
            raise ClusterLostError(
                f"the cluster has had no machine for its parts for {now - self._seen:.0f} seconds"
            )

    def _nodes(self) -> list[Node]:
        try:
            self.connection.check_head()
        except OSError as error:
            raise _lost_head(error) from error
        return list(self.connection.ray.nodes())

    def _sees_head(self) -> bool:
        try:
            self.connection.check_head()
        except OSError as error:
            self._failed_checks += 1
            if self._failed_checks >= MAX_FAILED_CHECKS:
                raise _lost_head(error) from error
            return False
        self._failed_checks = 0
        return True


def _lost_head(error: OSError) -> ClusterLostError:
    return ClusterLostError(f"the cluster's head is gone ({error})")
