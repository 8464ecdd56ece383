"""Parts for machines that do not see the project: their shards go through the shared cache."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.distributed.cluster_task import SHARDS, ClusterTask
from pipeline.distributed.shared_cache import SharedCache, open_shared_cache

MAX_BYTES = 2**28  # of shards that are written at the same time


class ShardSender:
    """Sends the parts of a stage's work; a shard that was sent once is not sent again."""

    def __init__(self, inputs: Callable[[Sequence[Path]], Mapping[str, bytes]]) -> None:
        """
        Args:
            inputs: What a part reads besides some shards and params.yaml, by path.
        """
        self._inputs = inputs

    @property
    def can_send(self) -> bool:
        """Whether there is a shared cache.

        Raises:
            PipelineError: PIPELINE_CACHE names none.
        """
        return self._cache is not None

    def send(self, task: ClusterTask) -> ClusterTask:
        """Put the shards of a part into the shared cache; return the task with all it needs.

        Raises:
            PipelineError: the shared cache cannot be written, or a path is absolute.
            OSError: the shared cache is a folder and cannot be written.
        """
        cache = self._cache
        assert cache is not None
        paths = [Path(task.shards, name) for name in task.sizes]
        inputs = {"params.yaml": Path("params.yaml").read_bytes(), **self._inputs(paths)}
        _check_relative([task.shards, *inputs])
        return replace(task, digests=self._send_shards(cache, paths), inputs=inputs)

    @cached_property
    def _cache(self) -> SharedCache | None:
        return open_shared_cache()

    @cached_property
    def _present(self) -> set[str]:
        """The names of shards in the cache: listed once, as there may be many."""
        return set(self._cache.sizes(SHARDS)) if self._cache else set()

    def _send_shards(self, cache: SharedCache, paths: Sequence[Path]) -> dict[str, str]:
        """Write the shards that the cache lacks; return their names there, by name."""
        names: dict[str, str] = {}
        files: dict[str, bytes] = {}
        for path in paths:
            content = path.read_bytes()
            name = names[path.name] = f"{hashlib.sha256(content).hexdigest()}.arrow"
            if name not in self._present:
                files[name] = content
            if sum(map(len, files.values())) > MAX_BYTES:
                self._write(cache, files)
                files = {}
        self._write(cache, files)
        return names

    def _write(self, cache: SharedCache, files: Mapping[str, bytes]) -> None:
        if files:
            cache.write(SHARDS, files)
            self._present.update(files)


def _check_relative(paths: Sequence[str]) -> None:
    """A machine writes them below a temporary folder, and absolute ones over the project's."""
    for path in paths:
        if Path(path).is_absolute():
            raise PipelineError(
                f"{path} cannot be sent to a machine of the cluster that does not see the project: "
                "give the stage paths relative to the project"
            )
