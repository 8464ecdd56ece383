"""Results of a pure function per image, remembered under .cache/<stage>/<key>/.

The key of a memo digests everything that a result depends on besides the image: parameters, the
source of the modules that compute it, versions of libraries, the processor. A change of these
starts an empty memo. The key of an image digests all that the function reads of it, so that a
changed or added image does not affect the others.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import atomic, columns, project, source_code
from pipeline.core.columns import texts
from pipeline.images.remembered_results import RememberedResults

CPU_INFO = Path("/proc/cpuinfo")  # Linux
MAX_KEYS = 8  # per stage; the least recently used are deleted
# Libraries choose their code by these: by name and vendor, by instructions, by the cache's size.
CPU_FIELDS = ("model name", "flags", "Features", "CPU implementer", "CPU part", "cache size")
# Environment variables that make torch, oneDNN, MKL, OpenCV or libjpeg choose other code.
VARIABLES = ("ATEN_CPU_", "DNNL_", "ONEDNN_", "MKL_CBWR", "MKL_ENABLE_", "OPENCV_", "JSIMD_")
KEY = pa.field("key", pa.string())  # the first column: `shards.key_column` of the image

Keys: TypeAlias = Sequence[str] | pa.Array
BoolArray = npt.NDArray[np.bool_]


def fingerprint(
    values: Mapping[str, object], modules: Sequence[str], libraries: Sequence[str]
) -> str:
    """Digest of everything that determines a result, except the machine, in hex.

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


def on_this_machine(key: str) -> str:
    """A key for results whose last bits may differ on another processor.

    Machines may share a memo: by a home folder on a server, or a cache of CI.
    """
    system = {"machine": platform.machine(), "macos": platform.mac_ver()[0]}
    variables = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}
    facts = json.dumps([key, system | _processor() | variables], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:20]


def _processor() -> dict[str, str]:
    """The fields of the first processor that decide."""
    if not CPU_INFO.exists():
        return {"processor": platform.processor()}
    fields: dict[str, str] = {}
    with CPU_INFO.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() in fields:  # the next processor
                break
            fields[name.strip()] = value.strip()
    return {name: fields[name] for name in CPU_FIELDS if name in fields}


class ResultStore(Protocol):
    """A place for results by the key of the image."""

    def missing(self, keys: Keys) -> BoolArray: ...

    def add(self, batch: pa.RecordBatch) -> None: ...


class Memo:
    """Results by the key of the image, in files whose names are the digests of their bytes.

    Several processes may share a memo: files appear whole, a merged file replaces others, and a
    result stored twice is the same. A file is hashed before its results are first used; a damaged
    one is removed, and its results are missing. Threads may share a memo, and work in turn.
    """

    def __init__(self, stage: str, key: str, schema: pa.Schema, part: str = "") -> None:
        """
        Args:
            key: A `fingerprint`.
            schema: Of the results.
            part: A subdirectory of the key; all parts of a key are deleted together.
        """
        self.schema = schema
        self.key = on_this_machine(key)
        """Equal on machines that compute the same results."""
        self.name = "/".join(filter(None, [stage, self.key, part]))
        folder = project.cache() / stage / self.key
        self.directory = folder / part
        self._transient: set[str] = set()  # keys of results of this process alone
        self.directory.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        _prune(project.cache() / stage)
        self._lock = RLock()
        self._results = RememberedResults(self.directory, pa.schema([KEY, *schema]))

    def missing(self, keys: Keys) -> BoolArray:
        """For each key whether the memo lacks its result."""
        with self._lock:
            return self._results.locate(_as_array(keys)) < 0

    def __contains__(self, key: str) -> bool:
        return not self.missing([key])[0]

    def add(self, batch: pa.RecordBatch) -> None:
        """Store the results of `batch`, which has the column `KEY` before those of the schema."""
        with self._lock:
            self._results.add(batch)

    def hold(self, batch: pa.RecordBatch) -> None:
        """Keep the results of `batch` in this process only: the next one computes them again."""
        with self._lock:
            self._transient.update(batch.column(0).to_pylist())
            self._results.hold(batch)

    def remembers(self, keys: Keys) -> BoolArray:
        """For each key whether the memo has its result, and the next process will have it."""
        is_transient = pc.is_in(_as_array(keys), texts(sorted(self._transient)))
        is_remembered: BoolArray = ~(self.missing(keys) | columns.mask(is_transient))
        return is_remembered

    def refresh(self) -> None:
        """Find what other processes have added since the memo was opened."""
        with self._lock:
            self._results.refresh()

    def get(self, keys: Keys, names: Sequence[str] | None = None) -> pa.RecordBatch:
        """The results for `keys`, in their order.

        Args:
            names: Of the columns to return; None for all.

        Raises:
            KeyError: the memo lacks a result.
        """
        array = _as_array(keys)
        with self._lock:
            places = self._results.locate(array)
            if (places < 0).any():
                raise KeyError(array[int(np.argmin(places))].as_py())
            return self._results.take(places, names or self.schema.names)


def _as_array(keys: Keys) -> pa.Array:
    return keys if isinstance(keys, pa.Array) else texts(keys)


def _prune(stage: Path) -> None:
    keys = [path for path in stage.iterdir() if path.is_dir()]
    keys.sort(key=atomic.modified_time, reverse=True)
    for key in keys[MAX_KEYS:]:
        shutil.rmtree(key, ignore_errors=True)
