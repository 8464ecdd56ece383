"""Parts for machines that do not see the project: their shards go through the shared cache."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.distributed import shared_cache
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

    def send(self, task: ClusterTask) -> ClusterTask:
        """Put the shards of a part into the shared cache; return the task with all it needs.

        Raises:
            PipelineError: there is no shared cache, or it cannot be written.
            OSError: likewise, for a folder.
        """
        cache = self._cache
        if cache is None:
            raise PipelineError(
                f"a machine of the cluster does not see {task.project}: put the project on a disk "
                f"that all of them see, or set {shared_cache.VARIABLE} to such a disk or to object "
                "storage"
            )
        paths = [Path(task.shards, name) for name in task.sizes]
        inputs = {"params.yaml": Path("params.yaml").read_bytes(), **self._inputs(paths)}
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
