"""Results of a pure function per image id, remembered under .cache/<stage>/<key>/.

The key digests everything that a result depends on besides the image: parameters, the source of
the modules that compute it, versions of libraries. A change of these starts an empty memo; a
changed or added image does not affect the others.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from pipeline.core import atomic, project, shards, source_code
from pipeline.core.errors import PipelineError

MAX_KEYS = 8  # per stage; the least recently used are deleted


def fingerprint(
    values: Mapping[str, object], modules: Sequence[str], libraries: Sequence[str]
) -> str:
    """Digest of everything that determines a result, in hex.

    Args:
        values: JSON-able: params, and digests of inputs.
        modules: Names of modules that compute it; what they import of this package is included.
        libraries: Distributions; their versions are included.
    """
    facts = {
        "values": values,
        "code": source_code.digest(*modules),
        "libraries": {name: importlib.metadata.version(name) for name in libraries},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


class ResultStore(Protocol):
    """A place for results by image id."""

    def __contains__(self, key: str) -> bool: ...

    def add(self, batch: pa.RecordBatch) -> None: ...


class Memo:
    """Results by image id, in Arrow files with `id` as the first column.

    Several processes may share a memo: complete files are added, and a result stored twice is the
    same.
    """

    def __init__(self, stage: str, key: str, part: str = "") -> None:
        """`part` is a subdirectory of the key; all parts of a key are deleted together."""
        self.directory = project.cache() / stage / key / part
        self.directory.mkdir(parents=True, exist_ok=True)
        os.utime(project.cache() / stage / key)
        _prune(project.cache() / stage)
        self._batches: list[pa.RecordBatch] = []
        self._where: dict[str, tuple[int, int]] = {}
        for path in sorted(self.directory.glob("*.arrow")):
            try:
                self._index(shards.read(path))
            except (PipelineError, KeyError):
                path.unlink(missing_ok=True)  # damaged; its results are computed again

    def _index(self, batch: pa.RecordBatch) -> None:
        number = len(self._batches)
        self._batches.append(batch)
        for row, key in enumerate(batch.column("id").to_pylist()):
            self._where.setdefault(key, (number, row))

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def add(self, batch: pa.RecordBatch) -> None:
        """Store the results of `batch` on disk."""
        ids = "\n".join(batch.column("id").to_pylist())
        path = self.directory / f"{hashlib.sha256(ids.encode()).hexdigest()[:20]}.arrow"
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor, staged = tempfile.mkstemp(dir=self.directory)
        os.close(descriptor)
        try:
            shards.write_batch(Path(staged), batch)
            Path(staged).replace(path)
        finally:
            Path(staged).unlink(missing_ok=True)
        self._index(shards.read(path))

    def hold(self, batch: pa.RecordBatch) -> None:
        """Remember the results of `batch` as long as this object lives."""
        self._index(batch)

    def get(self, keys: Iterable[str], schema: pa.Schema) -> pa.RecordBatch:
        """The results for `keys`, in their order. All must be in the memo."""
        positions = [self._where[key] for key in keys]
        files = sorted({number for number, _ in positions})
        parts = []
        joined_row: dict[tuple[int, int], int] = {}
        for number in files:
            rows = sorted({row for file, row in positions if file == number})
            parts.append(self._batches[number].take(shards.array(np.array(rows))))
            joined_row |= {
                (number, row): len(joined_row) + offset for offset, row in enumerate(rows)
            }
        joined = pa.Table.from_batches(parts, schema=schema).combine_chunks()
        order = shards.array(np.array([joined_row[position] for position in positions]))
        return joined.take(order).combine_chunks().to_batches()[0]


def _prune(stage: Path) -> None:
    keys = [path for path in stage.iterdir() if path.is_dir()]
    keys.sort(key=atomic.modified_time, reverse=True)
    for key in keys[MAX_KEYS:]:
        shutil.rmtree(key, ignore_errors=True)
