"""Parts of a stage's work on the machines of a Ray cluster.

PIPELINE_CLUSTER names the cluster: ray://HEAD:10001, HEAD:6379, or auto for the one that runs on
this machine, or else one that is started for the stage. Each part is the stage's own command with
--part, in a process that Ray's task starts; its results come through the memo alone.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import project, shards
from pipeline.core.progress import bar
from pipeline.core.terminal import warn
from pipeline.distributed import shared_cache
from pipeline.distributed.cluster_task import ClusterTask
from pipeline.distributed.machines import Machines, smallest_demand
from pipeline.distributed.part_queue import PartQueue
from pipeline.distributed.parts import Part, joint_key
from pipeline.distributed.ray_connection import ClusterLostError, cluster_address, connected
from pipeline.distributed.shard_sender import ShardSender
from pipeline.images.memo import Memo

PARTS_PER_NODE = 4  # so that a lost or slow node delays a quarter of its share
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
    return bool(cluster_address())


def compute_on_cluster(work: Work, paths: Sequence[Path]) -> bool:
    """Have the parts of a stage's work computed on the cluster; whether there was any.

    What a lost machine or cluster did not compute is still missing afterwards.

    Args:
        paths: The shards with images to compute.

    Raises:
        PipelineError: there is no such cluster, or none of its machines can compute the parts.
    """
    if not paths:
        return False
    with connected(cluster_address()) as connection, _token() as token:
        demand, nodes = smallest_demand(connection.ray.nodes(), work.gpu)
        count = part_count(len(paths), nodes)
        queue = PartQueue(Machines(connection, demand), ShardSender(work.inputs))
        try:
            with bar(f"{work.stage}: cluster", count, "part") as progress:
                for _ in queue.compute(_tasks(work, count, token, demand.cpus)):
                    progress.update()
        except ClusterLostError as error:
            warn(f"{error}: this machine computes the rest of {work.stage}")
    return True


def part_count(shards: int, nodes: int) -> int:
    """The number of parts for so many shards with images to compute.

    One machine gets one part: there is none to take over, and each part takes seconds to start.
    """
    return min(shards, nodes * PARTS_PER_NODE if nodes > 1 else 1)


@contextmanager
def _token() -> Iterator[str]:
    """A file in the project's cache that workers which see the project can read."""
    folder = project.cache() / TOKENS
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(file.name.encode())
        file.flush()
        yield file.name


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
