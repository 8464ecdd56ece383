"""The installed packages against those that requirements.lock pins."""

import importlib.metadata
import importlib.util
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from pipeline.core.errors import PipelineError

LOCK = "requirements.lock"


def find_deviations(locked: str) -> list[str]:
    """Clauses such as "numpy 2.1 instead of 2.2", sorted; of PyTorch's builds, all are alike.

    Args:
        locked: The text of requirements.lock.

    Raises:
        PipelineError: it is damaged.
    """
    return sorted(_deviations(locked))


def _deviations(locked: str) -> Iterator[str]:
    for line in locked.splitlines():
        if not line or line.startswith((" ", "#")):
            continue
        try:
            pin = Requirement(line.removesuffix("\\").strip())
        except InvalidRequirement as error:
            raise PipelineError(
                f"{LOCK} has a line {line[:60]!r}, which is no requirement: `git checkout HEAD -- "
                f"{LOCK}` restores it"
            ) from error
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
