"""What killed processes have left."""

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.commands.doctor.finding import Finding
from pipeline.commands.doctor.quarantine import Quarantine, isolate
from pipeline.core import atomic, staging
from pipeline.core.errors import PipelineError
from pipeline.experiments import dvc

MIN_AGE = 3600  # seconds: a younger one may belong to a process that runs
CLONES = Path(".cache/reproduce")


def examine_rwlocks(tmp_dir: Path, quarantine: Quarantine | None) -> Iterator[Finding]:
    """DVC's lists of readers and writers: if one is damaged, DVC stops until it is deleted."""
    for path in (tmp_dir / "rwlock", tmp_dir / "exps/rwlock"):
        if path.exists() and not _is_rwlock(path):
            problem = f"{path} is damaged, and DVC stops at it"
            name = str(path.relative_to(tmp_dir))
            yield isolate(problem, path, name, quarantine, "DVC makes it anew")


def _is_rwlock(path: Path) -> bool:
    from dvc.rwlock import SCHEMA

    try:
        with dvc.errors_as_sentences(f"{path} is not a list of readers and writers", "delete it"):
            SCHEMA(json.loads(path.read_bytes()))
    except PipelineError:
        return False
    return True


def examine_project(tmp_dir: Path, quarantine: Quarantine | None) -> Iterator[Finding]:
    """Folders in the project that take space, and nothing else."""
    patterns = [
        (tmp_dir / "exps", "tmp*"),  # experiments of the queue
        (tmp_dir / "exps/standalone", "tmp*"),  # of `dvc exp run --temp`
        *((Path(folder), f".*{staging.MARK}*") for folder in (".", "data", "reports")),
    ]
    yield from _examine(patterns, quarantine)


def examine_cache(cache: Path, quarantine: Quarantine | None) -> Iterator[Finding]:
    """Files in DVC's cache that DVC renames when they are whole."""
    patterns = [
        (cache / "files/md5", ".*.tmp"),
        (cache / "files/md5", "??/.*.tmp"),
        (cache / "runs", "??/*/.*.tmp"),
    ]
    yield from _examine(patterns, quarantine)


def _examine(
    patterns: Iterable[tuple[Path, str]], quarantine: Quarantine | None
) -> Iterator[Finding]:
    for folder, pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if time.time() - atomic.modified_time(path) > MIN_AGE:
                problem = f"{path} was left by a killed process"
                yield isolate(problem, path, f"left/{path.name}", quarantine, "you may delete it")


def examine_clones() -> Iterator[Finding]:
    """Clones of `pipeline reproduce`, which hold credentials of remotes."""
    from filelock import FileLock, Timeout

    for folder in sorted(path for path in CLONES.glob("*") if path.is_dir()):
        try:
            with FileLock(folder.with_suffix(".lock"), blocking=False):
                yield Finding(
                    f"{folder} was left by a killed `pipeline reproduce`",
                    "the next `pipeline reproduce` deletes it",
                )
        except Timeout:  # it is at work
            continue
