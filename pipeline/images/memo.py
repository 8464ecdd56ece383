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
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from pipeline.core import atomic, project, shards, source_code
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import warn

CPU_INFO = Path("/proc/cpuinfo")  # Linux
MAX_KEYS = 8  # per stage; the least recently used are deleted
# Libraries choose their code by these: by name and vendor, by instructions, by the cache's size.
CPU_FIELDS = ("model name", "flags", "Features", "CPU implementer", "CPU part", "cache size")
# Environment variables that make torch, oneDNN, MKL, OpenCV or libjpeg choose other code.
VARIABLES = ("ATEN_CPU_", "DNNL_", "ONEDNN_", "MKL_CBWR", "MKL_ENABLE_", "OPENCV_", "JSIMD_")
KEY = pa.field("key", pa.string())  # the first column: `shards.content_keys` of the image


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

    def __contains__(self, key: str) -> bool: ...

    def add(self, batch: pa.RecordBatch) -> None: ...


class Memo:
    """Results by the key of the image, in Arrow files whose names are the digests of their bytes.

    Several processes may share a memo: complete files are added, and a result stored twice is the
    same. All files are checked when a memo is opened.
    """

    def __init__(self, stage: str, key: str, schema: pa.Schema, part: str = "") -> None:
        """
        Args:
            key: A `fingerprint`.
            schema: Of the results.
            part: A subdirectory of the key; all parts of a key are deleted together.
        """
        self.schema = schema
        self._columns = pa.schema([KEY, *schema])
        folder = project.cache() / stage / on_this_machine(key)
        self.directory = folder / part
        self.directory.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        _prune(project.cache() / stage)
        self._batches: list[pa.RecordBatch] = []
        self._where: dict[str, tuple[int, int]] = {}
        self._open_files()

    def _open_files(self) -> None:
        paths = sorted(self.directory.glob("*.arrow"))
        with ThreadPoolExecutor() as pool:
            is_intact = dict(zip(paths, pool.map(self._is_intact, paths), strict=True))
        damaged = [path for path in paths if not is_intact[path]]
        for path in damaged:
            path.unlink(missing_ok=True)
        if damaged:
            warn(
                f"{len(damaged)} of {len(paths)} files of the memo {self.directory} are damaged "
                f"(such as {damaged[0].name}): their results are computed again"
            )
        for path in paths:
            with suppress(FileNotFoundError):  # damaged, or another process has removed it
                self.hold(shards.read(path))

    def _is_intact(self, path: Path) -> bool:
        try:
            # Not mapped into memory: there, a bad block of the disk would kill the process.
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != path.stem:
                    return False
            return bool(shards.read(path).schema == self._columns)
        except FileNotFoundError:  # another process has removed it
            return True
        except (PipelineError, OSError):
            return False

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def add(self, batch: pa.RecordBatch) -> None:
        """Store the results of `batch`, which has the column `KEY` before those of the schema."""
        sink = pa.BufferOutputStream()
        shards.write_batch(sink, batch)
        content = sink.getvalue()
        path = self.directory / f"{hashlib.sha256(content).hexdigest()}.arrow"
        with atomic.replacing(path) as staged:
            staged.write_bytes(content)
        self.hold(shards.read(path))

    def hold(self, batch: pa.RecordBatch) -> None:
        """Have the results of `batch` in this process only: the next one computes them again."""
        number = len(self._batches)
        self._batches.append(batch)
        for row, key in enumerate(batch.column(KEY.name).to_pylist()):
            self._where.setdefault(key, (number, row))

    def get(self, keys: Iterable[str]) -> pa.RecordBatch:
        """The results for `keys`, in their order. All must be in the memo."""
        positions = [self._where[key] for key in keys]
        files = sorted({number for number, _ in positions})
        parts = []
        joined_row: dict[tuple[int, int], int] = {}
        for number in files:
            rows = sorted({row for file, row in positions if file == number})
            results = self._batches[number].select(self.schema.names)
            parts.append(results.take(shards.array(np.array(rows))))
            joined_row |= {
                (number, row): len(joined_row) + offset for offset, row in enumerate(rows)
            }
        joined = pa.Table.from_batches(parts, schema=self.schema).combine_chunks()
        order = shards.array(np.array([joined_row[position] for position in positions]))
        return joined.take(order).combine_chunks().to_batches()[0]


def _prune(stage: Path) -> None:
    keys = [path for path in stage.iterdir() if path.is_dir()]
    keys.sort(key=atomic.modified_time, reverse=True)
    for key in keys[MAX_KEYS:]:
        shutil.rmtree(key, ignore_errors=True)
