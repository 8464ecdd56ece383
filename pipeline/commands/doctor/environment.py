"""This Python and its packages, the graphics card, and the space on disk."""

import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from pipeline.commands.doctor.finding import Finding

LOCK = Path("requirements.lock")
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
    others = sorted(_differences(locked))
    if others:
        more = f" and {len(others) - MAX_NAMED} more" if len(others) > MAX_NAMED else ""
        named = ", ".join(others[:MAX_NAMED])
        yield Finding(f"other packages than in {LOCK} are installed ({named}{more})", AGAIN)


def _differences(locked: str) -> Iterator[str]:
    for line in locked.splitlines():
        if not line or line.startswith((" ", "#")):
            continue
        pin = Requirement(line.removesuffix("\\").strip())
        is_left_out = pin.marker is not None and not pin.marker.evaluate()
        if is_left_out or (_is_of_cuda(pin.name) and _is_cpu_build()):
            continue
        try:
            installed = importlib.metadata.version(pin.name)
        except importlib.metadata.PackageNotFoundError:
            yield f"{pin.name} is missing"
            continue
        # Without the local part: PyTorch's builds for CPUs are 2.14.1+cpu.
        if not pin.specifier.contains(Version(installed).public, prereleases=True):
            yield f"{pin.name} {installed} instead of {str(pin.specifier).removeprefix('==')}"


def _is_of_cuda(name: str) -> bool:
    return name.startswith(("nvidia-", "cuda-")) or name == "triton"


def _is_cpu_build() -> bool:
    """Whether torch came without the packages of CUDA."""
    return importlib.util.find_spec("triton") is None


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
