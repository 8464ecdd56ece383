"""A part of a stage's work on a machine of a cluster: what is sent there, and its computation."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.distributed import shared_cache
from pipeline.distributed.shared_cache import open_shared_cache

SHARDS = "shards"  # in the shared cache: those of machines that do not see the project


class Outcome(Enum):
    """How the computation of a part ended."""

    DONE = "done"
    NOT_SEEN = "not seen"  # the machine does not see the project
    KILLED = "killed"  # by a signal, as when the machine shuts down
    FAILED = "failed"  # on this machine; another one may be able to do it


@dataclass(frozen=True)
class Answer:
    """What a machine answers."""

    outcome: Outcome
    reason: str = ""
    """Why it failed."""
    host: str = ""
    node: str = ""
    """Its id in the cluster."""


@dataclass(frozen=True)
class ClusterTask:
    """A part, as it is sent to a machine."""

    stage: str
    arguments: Sequence[str]
    part: str
    key: str
    cpus: int
    project: str
    """The project's folder on the machine that runs the stage."""
    root: str
    """Where its .cache is."""
    token: str
    inputs: Mapping[str, bytes]
    shards: str
    sizes: Mapping[str, int]
    """Of the part's shards, in bytes by name."""
    digests: Mapping[str, str]
    """Names of the part's shards in the shared cache, by name; nothing if they were not sent."""
    cache: str


def answer_task(task: ClusterTask) -> Answer:
    """Compute a part in a task of Ray; say which machine did it."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    return replace(compute_task(task), host=os.uname().nodename, node=node)


def compute_task(task: ClusterTask) -> Answer:
    """Compute a part in a process of its own."""
    if _shares_disk(task):
        return _run(task, Path(task.project), task.root, task.part)
    if not task.digests:
        return Answer(Outcome.NOT_SEEN)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            for path, content in task.inputs.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)
            _fetch_shards(task, folder / task.shards)
        except (PipelineError, OSError) as error:
            return Answer(Outcome.FAILED, f"it cannot read the shards: {error}")
        return _run(task, folder, name, "1/1")


def _shares_disk(task: ClusterTask) -> bool:
    """Whether this machine sees the project's cache and the shards."""
    folder = Path(task.project, task.shards)
    try:
        is_same = Path(task.token).read_text() == task.token
        return is_same and all(
            (folder / name).stat().st_size == size for name, size in task.sizes.items()
        )
    except OSError:
        return False


def _fetch_shards(task: ClusterTask, folder: Path) -> None:
    folder.mkdir(parents=True)
    cache = open_shared_cache(task.cache)
    assert cache is not None
    names = {digest: name for name, digest in task.digests.items()}
    sizes = {digest: task.sizes[name] for digest, name in names.items()}
    for digest, content in cache.read(SHARDS, sizes):
        (folder / names[digest]).write_bytes(content)  # images are checked by their own digests


def _run(task: ClusterTask, folder: Path, root: str, part: str) -> Answer:
    command = [sys.executable, "-m", f"pipeline.stages.{task.stage}", *task.arguments]
    limits = {"LOKY_MAX_CPU_COUNT": str(task.cpus), "OMP_NUM_THREADS": str(task.cpus)}
    ended = subprocess.run(  # noqa: S603 - the stage's own command
        [*command, "--part", part, "--key", task.key],
        cwd=folder,
        env=os.environ | limits | {"DVC_ROOT": root, shared_cache.VARIABLE: task.cache},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if not ended.returncode:
        return Answer(Outcome.DONE)
    if ended.returncode < 0:
        return Answer(Outcome.KILLED)
    last = ended.stderr.strip().splitlines()[-1:] or [f"exit code {ended.returncode}"]
    return Answer(Outcome.FAILED, last[0].removeprefix("error: "))
