"""Parts on their way through a cluster: sent to machines, sent again elsewhere, awaited."""

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.core.errors import PipelineError
from pipeline.core.terminal import one_line, warn
from pipeline.distributed import shared_cache
from pipeline.distributed.cluster_task import Answer, ClusterTask, Outcome, answer_task
from pipeline.distributed.machines import Machines
from pipeline.distributed.ray_connection import ClusterLostError
from pipeline.distributed.shard_sender import ShardSender

RETRIES = 3  # of a part whose machine is lost
POLL = 0.5  # seconds
NODE_LABEL = "ray.io/node-id"  # which Ray gives to each machine


class PartQueue:
    """The parts of a stage's work that are on the cluster.

    A machine that cannot compute a part gets no more of them, with a warning; others compute them.
    """

    def __init__(self, machines: Machines, sender: ShardSender) -> None:
        self._machines, self._sender = machines, sender
        self._ray = machines.connection.ray
        demand = machines.demand
        options = {"num_cpus": demand.cpus, "num_gpus": demand.gpus, "max_retries": RETRIES}
        self._remote = self._ray.remote(**options)(answer_task)
        self._pending: dict[Any, ClusterTask] = {}
        self._is_any_computed = False

    def compute(self, tasks: Sequence[ClusterTask]) -> Iterator[None]:
        """Have the parts computed; yield once for each that was computed, or lost.

        Raises:
            ClusterLostError: the cluster cannot compute the rest.
            PipelineError: all machines have refused, and none has computed a part.
        """
        try:
            for task in tasks:
                self._submit(task)
            while self._pending:
                done, _ = self._ray.wait(list(self._pending), timeout=POLL)
                for reference in done:
                    if self._is_settled(reference):
                        yield
                self._machines.check()
        except (ConnectionError, self._ray.exceptions.RayError) as error:  # ray:// tries for 30 s
            raise ClusterLostError(f"the connection is lost ({one_line(error)})") from error
        except PipelineError:
            self._cancel()
            raise

    def _submit(self, task: ClusterTask) -> None:
        remote = self._remote
        if refused := self._machines.refused:
            elsewhere = {NODE_LABEL: f"!in({','.join(sorted(refused))})"}
            remote = remote.options(label_selector=elsewhere)
        self._pending[remote.remote(task)] = task

    def _cancel(self) -> None:
        for reference in self._pending:
            self._ray.cancel(reference, force=True)

    def _is_settled(self, reference: Any) -> bool:
        """Whether a part was computed or lost, and not sent again."""
        task = self._pending.pop(reference)
        errors = self._ray.exceptions
        try:
            answer: Answer = self._ray.get(reference)
        except errors.RayTaskError as error:
            self._refuse(task, self._machines.at(error.ip), error.ip, one_line(error))
            return False
        except errors.RayError as error:
            return _warn_of_loss(task, f"Ray: {type(error).__name__}")
        if answer.outcome is Outcome.KILLED:
            return _warn_of_loss(task, "its process was killed")
        if answer.outcome is Outcome.DONE:
            self._is_any_computed = True
            return True
        self._send_again(task, answer)
        return False

    def _send_again(self, task: ClusterTask, answer: Answer) -> None:
        reason = answer.reason
        if answer.outcome is Outcome.NOT_SEEN:
            if self._sender.can_send:
                self._submit(self._sender.send(task))
                return
            reason = (
                f"it does not see {task.project}: put the project on a disk that all machines see, "
                f"or set {shared_cache.VARIABLE} to such a disk or to object storage"
            )
        self._refuse(task, {answer.node}, answer.host, reason)

    def _refuse(self, task: ClusterTask, nodes: set[str], host: str, reason: str) -> None:
        """Give a part to other machines than those that cannot compute it, and these no more."""
        is_new = not nodes <= self._machines.refused
        self._machines.refused |= nodes
        if not (nodes and self._machines.ids()):
            problem = f"no machine of the cluster can compute {task.stage}; {host}: {reason}"
            raise ClusterLostError(problem) if self._is_any_computed else PipelineError(problem)
        if is_new:
            warn(f"{host} gets no more parts of {task.stage}: {reason}")
        self._submit(task)


def _warn_of_loss(task: ClusterTask, reason: str) -> bool:
    warn(f"part {task.part} was lost ({reason}): this machine computes it")
    return True
