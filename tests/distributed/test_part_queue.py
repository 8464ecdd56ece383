"""Parts on their way through a cluster of functions."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.distributed import machines as machines_module
from pipeline.distributed import part_queue
from pipeline.distributed.cluster_task import Answer, ClusterTask, Outcome
from pipeline.distributed.machines import Demand, Machines
from pipeline.distributed.part_queue import PartQueue
from pipeline.distributed.ray_connection import ClusterLostError, Connection
from pipeline.distributed.shard_sender import ShardSender
from tests.builders.cluster_tasks import cluster_task_of
from tests.builders.fake_ray import ADDRESS, FakeRay, NeverEnds, RayError, RayTaskError

NOT_SEEN = "it does not see /project: put the project on a disk that all machines see, or set "


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines_module, "CHECK_SECONDS", 0)
    monkeypatch.setattr(machines_module, "PATIENCE_SECONDS", 0.05)
    monkeypatch.delenv("PIPELINE_CACHE", raising=False)


@pytest.fixture
def tasks() -> list[ClusterTask]:
    task = cluster_task_of(Path("/project"))
    return [replace(task, part=f"{number}/4") for number in range(1, 5)]


class Head(Connection):
    """It is always there."""

    def check_head(self) -> None:
        pass


class LostHead(Connection):
    def check_head(self) -> None:
        raise ConnectionRefusedError("refused")


def queue_of(ray: FakeRay, connection: type[Connection] = Head) -> PartQueue:
    machines = Machines(connection(ray, "head:1"), Demand(4, 0))
    return PartQueue(machines, ShardSender(lambda _: {}))


def machine(name: str, outcome: Outcome, reason: str = "") -> Callable[[ClusterTask], Answer]:
    return lambda _: Answer(outcome, reason, f"host-{name}", name)


def raising(error: Exception) -> Callable[..., Answer]:
    def run(*_: object, **__: object) -> Answer:
        raise error

    return run


@pytest.mark.parametrize(
    ("outcome", "reason", "warning"),
    [
        (Outcome.FAILED, "--key=1 is not its key", "--key=1 is not its key"),
        (Outcome.NOT_SEEN, "", NOT_SEEN),
    ],
)
def test_what_one_machine_refuses_another_computes(
    tasks: list[ClusterTask],
    capsys: pytest.CaptureFixture[str],
    outcome: Outcome,
    reason: str,
    warning: str,
) -> None:
    """With one warning, though it gets several parts before it has refused one."""
    computed: Counter[str] = Counter()

    def compute(task: ClusterTask) -> Answer:
        computed[task.part] += 1
        return Answer(Outcome.DONE)

    ray = FakeRay({"good": compute, "bad": machine("bad", outcome, reason)})
    assert len(list(queue_of(ray).compute(tasks))) == 4
    assert computed == Counter({f"{number}/4": 1 for number in range(1, 5)})
    (line,) = capsys.readouterr().err.splitlines()
    assert f"host-bad gets no more parts of filter: {warning}" in line


def test_the_work_stops_if_all_machines_refuse(
    tasks: list[ClusterTask], capsys: pytest.CaptureFixture[str]
) -> None:
    ray = FakeRay({name: machine(name, Outcome.FAILED, f"of {name}") for name in "ab"})
    with pytest.raises(PipelineError) as caught:
        list(queue_of(ray).compute(tasks))
    names = {str(caught.value)[-1], capsys.readouterr().err.strip()[-1]}
    assert str(caught.value)[:-1] == (
        f"no machine of the cluster can compute filter; host-{str(caught.value)[-1]}: of "
    )
    assert names == {"a", "b"}
    assert ray.cancelled


def test_an_error_in_ray_s_worker_refuses_the_machine(tasks: list[ClusterTask]) -> None:
    """As without this project: all machines of the fake have one address."""
    ray = FakeRay({"a": raising(RayTaskError("No module named 'pipeline'"))})
    with pytest.raises(PipelineError) as caught:
        list(queue_of(ray).compute(tasks))
    assert str(caught.value) == (
        f"no machine of the cluster can compute filter; {ADDRESS}: No module named 'pipeline'"
    )


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        (raising(RayError()), "Ray: RayError"),
        (machine("lost", Outcome.KILLED), "its process was killed"),
    ],
)
def test_a_lost_part_is_left_to_this_machine(
    tasks: list[ClusterTask],
    capsys: pytest.CaptureFixture[str],
    lost: Callable[[ClusterTask], Answer],
    reason: str,
) -> None:
    assert len(list(queue_of(FakeRay({"lost": lost})).compute(tasks[:1]))) == 1
    assert f"part 1/4 was lost ({reason}): this machine computes it" in capsys.readouterr().err


@pytest.mark.parametrize("cpus", [4, 1])
def test_the_cluster_is_lost_without_a_machine_for_a_minute(
    tasks: list[ClusterTask], cpus: int
) -> None:
    """Without its workers, or if they are all too small."""
    ray = FakeRay({"a": raising(NeverEnds()), "b": raising(NeverEnds())}, cpus=cpus)
    ray.dead = {"a", "b"} if cpus == 4 else {"b"}
    with pytest.raises(ClusterLostError, match="no machine for its parts for 0 seconds"):
        list(queue_of(ray).compute(tasks))


def test_a_machine_that_refuses_after_others_have_computed_does_not_stop_the_work(
    tasks: list[ClusterTask],
) -> None:
    """The others were lost meanwhile: this machine computes the rest."""
    ray = FakeRay({})

    def compute(_: ClusterTask) -> Answer:
        ray.dead = {"good"}
        return Answer(Outcome.DONE)

    ray.machines = {"bad": machine("bad", Outcome.FAILED, "full"), "good": compute}
    with pytest.raises(ClusterLostError, match="can compute filter; host-bad: full"):
        list(queue_of(ray).compute(tasks))


def test_the_cluster_is_lost_with_its_head(tasks: list[ClusterTask]) -> None:
    ray = FakeRay({"a": raising(NeverEnds())})
    with pytest.raises(ClusterLostError, match=r"the cluster's head is gone \(refused\)"):
        list(queue_of(ray, LostHead).compute(tasks))


def test_the_cluster_is_lost_with_the_connection(
    tasks: list[ClusterTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = FakeRay({"a": raising(NeverEnds())})
    monkeypatch.setattr(ray, "wait", raising(ConnectionError("shutting down")))
    with pytest.raises(ClusterLostError, match="the connection is lost"):
        list(queue_of(ray).compute(tasks))


def test_a_machine_that_is_there_is_waited_for(
    tasks: list[ClusterTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow one, for longer than without any machine."""
    monkeypatch.setattr(part_queue, "POLL", 0)
    ray = FakeRay({"slow": machine("slow", Outcome.DONE)})
    waits = iter(range(1000))

    def wait(references: list[object], timeout: float) -> tuple[list[object], None]:
        return (references if next(waits) > 900 else []), None

    monkeypatch.setattr(ray, "wait", wait)
    assert len(list(queue_of(ray).compute(tasks))) == 4
