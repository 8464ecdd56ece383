"""The libraries that backbones come from, known by a backbone's name or by its network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from pipeline.network import small_models

TIMM = "timm/"
LibraryName = Literal["small", "timm", "torchvision"]


@dataclass(frozen=True)
class OpaqueCode:
    """What torch.fx must not trace into, as a library declares it."""

    modules: tuple[type[nn.Module], ...] = ()
    functions: tuple[Callable[..., Any], ...] = ()


def library_of(name: str) -> LibraryName:
    """Which library builds a backbone."""
    if name.startswith(TIMM):
        return "timm"
    return "small" if name in small_models.BUILDERS else "torchvision"


def name_in_library(name: str) -> str:
    """A backbone's name without `timm/`."""
    return name.removeprefix(TIMM)


def is_of_timm(network: nn.Module) -> bool:
    """Whether timm built a network."""
    return type(network).__module__.startswith("timm.")


def opaque_code(network: nn.Module) -> OpaqueCode:
    """What torch.fx must not trace into in a network."""
    if not is_of_timm(network):
        return OpaqueCode()
    from pipeline.network import timm_models  # its network has imported timm

    return OpaqueCode(timm_models.opaque_modules(), timm_models.opaque_functions())
