"""Parts of a stage's work on the machines of a Ray cluster.

PIPELINE_CLUSTER names the cluster: ray://HEAD:10001, HEAD:6379, or auto for the one that runs on
this machine, or else one that is started for the stage. Each part is the stage's own command with
--part, in a process that Ray's task starts; its results come through the memo alone.
"""

import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import project, shards
from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.core.terminal import one_line, warn, without_password
from pipeline.distributed import shared_cache
from pipeline.distributed.cluster_task import KILLED, NOT_SEEN, ClusterTask, compute_task
from pipeline.distributed.parts import Part, joint_key
from pipeline.distributed.shard_sender import ShardSender
from pipeline.images.memo import Memo

VARIABLE = "PIPELINE_CLUSTER"
PARTS_PER_NODE = 4  # so that a lost or slow node delays a quarter of its share
RETRIES = 3  # of a part whose node is lost
POLL = 0.5  # seconds
CONNECT_SECONDS = 10  # for the head to answer
TOKENS = "tokens"  # in .cache: files by which a worker knows that it sees the project


@dataclass(frozen=True)
class Work:
    """What a stage computes in parts."""

    stage: str
    """Such as "filter"."""
    arguments: Sequence[str]
    """Of its command: paths, relative to the project."""
    shards: Path
    """The folder of the images."""
    inputs: Callable[[Sequence[Path]], Mapping[str, bytes]]
    """What the command reads besides some shards, by path: sent to machines without the project."""
    memos: Sequence[Memo]
    """Where the results go; their keys decide whether a machine may compute them."""
    gpu: bool = False
    """Whether it uses GPUs."""


def is_set() -> bool:
    """Whether PIPELINE_CLUSTER names a cluster."""
    return bool(_address())


def _address() -> str:
    return os.environ.get(VARIABLE, "").strip()


def compute_on_cluster(work: Work, paths: Sequence[Path]) -> bool:
    """Have the parts of a stage's work computed on the cluster; whether there was any.

    What a lost machine did not compute is still missing afterwards.

    Args:
        paths: The shards with images to compute.

    Raises:
        PipelineError: there is no such cluster, or one of its machines would compute other results.
    """
    if not paths:
        return False
    with _connected(_address()) as ray, _token() as token:
        cpus, gpus, nodes = _resources(ray)
        options = {"num_cpus": cpus, "num_gpus": gpus if work.gpu else 0}
        remote = ray.remote(max_retries=RETRIES, **options)(compute_task)
        count, sender = part_count(len(paths), nodes), ShardSender(work.inputs)
        pending = {remote.remote(task): task for task in _tasks(work, count, token, cpus)}
        with bar(f"{work.stage}: cluster", count, "part") as progress:
            while pending:
                done, _ = ray.wait(list(pending), timeout=POLL)
                for reference in done:
                    task = pending.pop(reference)
                    answer = _answer(ray, reference, task.part)
                    if answer == NOT_SEEN and not task.digests:
                        sent = sender.send(task)
                        pending[remote.remote(sent)] = sent
                    elif answer:
                        for other in pending:
                            ray.cancel(other, force=True)
                        raise PipelineError(answer)
                    else:
                        progress.update()
    return True


def part_count(shards: int, nodes: int) -> int:
    """The number of parts for so many shards with images to compute.

    One machine gets one part: there is none to take over, and each part takes seconds to start.
    """
    return min(shards, nodes * PARTS_PER_NODE if nodes > 1 else 1)


def _answer(ray: Any, reference: Any, part: str) -> str:
    """What `compute_task` returned; "" if the part or its machine was lost."""
    try:
        answer, reason = str(ray.get(reference)), "its process was killed"
    except ray.exceptions.RayTaskError as error:
        return f"the machine that computes part {part} of the cluster failed: {one_line(error)}"
    except ray.exceptions.RayError as error:
        answer, reason = KILLED, f"Ray: {type(error).__name__}"
    if answer != KILLED:
        return answer
    warn(f"part {part} was lost ({reason}): this machine computes it")
    return ""


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    ray = _import_ray(address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    on_sigterm = signal.getsignal(signal.SIGTERM)  # Ray sets its own
    with _errors_as_sentences(ray, address):
        if address == "auto":
            _connect_or_start(ray, quiet)
        else:
            _check_answers(address)
            ray.init(address=address, **quiet)
    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield ray
    finally:
        ray.shutdown()


def _import_ray(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise PipelineError(
            f"{VARIABLE}={without_password(address)} needs Ray: pip install '.[cluster]', or unset "
            f"{VARIABLE}"
        ) from error
    return ray


@contextmanager
def _errors_as_sentences(ray: Any, address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise PipelineError(
            f"{VARIABLE}={without_password(address)} cannot be reached ({one_line(error)}): start "
            "it with `ray start --head`, correct the address, set RAY_AUTH_MODE=token and "
            f"RAY_AUTH_TOKEN if it wants a token, or unset {VARIABLE}"
        ) from error


def check_cluster() -> None:
    """Look for the cluster that PIPELINE_CLUSTER names, without starting one.

    Raises:
        PipelineError: Ray is not installed, or nothing listens at the address.
    """
    if address := _address():
        with _errors_as_sentences(_import_ray(address), address):
            if address != "auto":
                _check_answers(address)


def _check_answers(address: str) -> None:
    """Raise an OSError if nothing listens there: Ray would try for five minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError("it is not HOST:PORT")
    with socket.create_connection((host, int(port)), CONNECT_SECONDS):
        pass


def _connect_or_start(ray: Any, quiet: Mapping[str, Any]) -> None:
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        os.environ.setdefault("RAY_worker_niceness", "0")  # as the stage's own work, not 15
        ray.init(include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)


@contextmanager
def _token() -> Iterator[str]:
    """A file in the project's cache that workers which see the project can read."""
    folder = project.cache() / TOKENS
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(file.name.encode())
        file.flush()
        yield file.name


def _resources(ray: Any) -> tuple[int, int, int]:
    """The cores and GPUs of the smallest machine, so that a part fits on each; and their number."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    workers = [node for node in nodes if node.get("CPU")]
    if not workers:
        raise PipelineError("no machine of the cluster has a core for work: add workers to it")
    cpus = min(int(node["CPU"]) for node in workers)
    gpus = min(int(node.get("GPU", 0)) for node in workers)
    return max(cpus, 1), gpus, len(workers)


def _tasks(work: Work, count: int, token: str, cpus: int) -> list[ClusterTask]:
    paths, key = shards.paths(work.shards), joint_key(work.memos)
    return [
        ClusterTask(
            stage=work.stage,
            arguments=list(work.arguments),
            part=f"{number}/{count}",
            key=key,
            cpus=cpus,
            project=str(Path.cwd()),
            root=str(project.root().resolve()),
            token=token,
            inputs={},
            shards=str(work.shards),
            sizes={path.name: path.stat().st_size for path in Part(number, count).select(paths)},
            digests={},
            cache=os.environ.get(shared_cache.VARIABLE, ""),
        )
        for number in range(1, count + 1)
    ]
