"""This Python and its packages, the graphics card, and the space on disk."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.commands.doctor.finding import Finding
from pipeline.experiments import locked_packages

LOCK = Path(locked_packages.LOCK)
OLDEST, NEWEST = (3, 11), (3, 14)
MIN_FREE = 5e9  # bytes: a data set of some thousand photographs, its copy, features and models
MAX_NAMED = 3  # packages in a sentence
DRIVER = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"))
AGAIN = "`make env` installs what requirements.lock has"


def examine(cache: Path) -> Iterator[Finding]:
    """Whatever of these keeps the pipeline from running, or from being as fast as it could be.

    Args:
        cache: DVC's; it may be on another disk.
    """
    yield from examine_python(sys.version_info[:2])
    if LOCK.exists():
        yield from examine_packages(LOCK.read_text())
    yield from examine_gpu(any(path.exists() for path in DRIVER))
    yield from examine_disks(cache)


def examine_python(version: tuple[int, ...]) -> Iterator[Finding]:
    """A Python that the lock file has no wheels for."""
    if not OLDEST <= version <= NEWEST:
        yield Finding(
            f"this is Python {'.'.join(map(str, version))}, and the packages are for 3.11 to 3.14",
            "install one of these, then `make clean && make env`",
        )


def examine_packages(locked: str) -> Iterator[Finding]:
    """Packages that are missing, or of other versions than the lock file pins."""
    others = locked_packages.find_deviations(locked)
    if others:
        more = f" and {len(others) - MAX_NAMED} more" if len(others) > MAX_NAMED else ""
        named = ", ".join(others[:MAX_NAMED])
        yield Finding(f"other packages than in {LOCK} are installed ({named}{more})", AGAIN)


def examine_gpu(has_driver: bool) -> Iterator[Finding]:
    """An NVIDIA card that torch cannot use."""
    if not has_driver:
        return
    import torch

    if torch.version.cuda is None:
        yield Finding(
            "this machine has an NVIDIA driver, but PyTorch's CPU build is installed",
            "`make clean && make env TORCH=default` installs the one with CUDA",
        )
    elif not torch.cuda.is_available():
        yield Finding(
            f"PyTorch, built for CUDA {torch.version.cuda}, cannot use the NVIDIA card",
            "`nvidia-smi` says whether the driver is loaded and new enough for it",
        )


def examine_disks(cache: Path) -> Iterator[Finding]:
    """Little space, where the project and DVC's cache are."""
    folders = {folder.stat().st_dev: folder for folder in (Path(), cache) if folder.is_dir()}
    for folder in folders.values():
        if (free := shutil.disk_usage(folder).free) < MIN_FREE:
            yield Finding(
                f"the disk of {folder.resolve()} has only {free / 1e9:.1f} GB left",
                "make room; `dvc push`, then `dvc gc --workspace`, removes from DVC's cache what "
                "the workspace does not use, so all other commits and experiments",
            )
