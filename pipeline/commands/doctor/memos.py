"""The memos in .cache, whose files are named by the sha256 of their bytes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.commands.doctor.finding import Finding
from pipeline.commands.doctor.quarantine import Quarantine, isolate
from pipeline.core import file_digests, progress


def examine(cache: Path, quarantine: Quarantine | None) -> Iterator[Finding]:
    """Damaged files. A stage that meets one says so, and computes its results again."""
    paths = sorted(cache.glob("*/*/**/*.arrow"))
    with progress.bar("memos", len(paths), "file") as bar, ThreadPoolExecutor() as pool:
        for path, is_sound in zip(paths, pool.map(_is_sound, paths), strict=True):
            bar.update()
            if not is_sound:
                name = str(path.relative_to(cache))
                problem = f"{path}, a file of a memo, is damaged"
                yield isolate(problem, path, name, quarantine, "`dvc repro` computes it")


def _is_sound(path: Path) -> bool:
    try:
        return file_digests.sha256(path) == path.stem
    except FileNotFoundError:  # removed meanwhile
        return True
    except OSError:
        return False
