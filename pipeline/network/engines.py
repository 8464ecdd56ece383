"""What computes the frozen prefix: OpenVINO on a CPU that it supports, else torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from pipeline.network import openvino_engine
from pipeline.network.loading.parallel_forward import Tensors
from pipeline.network.openvino_engine import OpenVinoEngine, UnsupportedError
from pipeline.network.torch_engine import TorchEngine
from pipeline.network.views import Preprocess

# Of the outputs for one image, against torch in float32, relative to their norm. Wrong operations
# are off by their whole norm; bfloat16 by 0.04 for mobilenet_v2 and by 0.01 for most networks.
MAX_ERROR = {"32-true": 1e-3, "bf16-mixed": 0.2}


class Engine(Protocol):
    """uint8 (B, 3, S, S) -> tensors (B, ...) on the engine's device."""

    name: str
    """`torch`, or another package with its version."""

    def __call__(self, pixels: Tensor) -> Tensors: ...


@dataclass(frozen=True)
class Workload:
    """What an engine computes, and on what."""

    prefix: nn.Module
    preprocess: Preprocess
    device: torch.device
    precision: str
    """Like features.precision, but not `auto`."""
    pad_to: int
    """Images per pass of torch: smaller batches are padded."""
    compiled: bool
    threads: int
    """Images, or batches of torch, that are computed at the same time."""


@dataclass(frozen=True)
class Choice:
    """An engine, and why it is not another one."""

    engine: Engine
    why: str = ""
    """Why OpenVINO does not compute on this CPU, a clause; "" if it does, or on other devices."""


def choose(workload: Workload, recorded: str | None = None) -> Choice:
    """An engine that can run the network; which depends on the arguments and the machine alone.

    Args:
        recorded: The name of the engine that computed before, None for the fastest. Where it is
            missing, another version of it is the choice, or torch.
    """
    if recorded is None:
        return _fastest(workload)
    if recorded.startswith(openvino_engine.PACKAGE) and workload.device.type == "cpu":
        try:
            return Choice(_openvino(workload))
        except UnsupportedError as error:
            return Choice(_torch(workload), f"OpenVINO cannot: {error}")
    return Choice(_torch(workload))


def _fastest(workload: Workload) -> Choice:
    if workload.device.type != "cpu" or workload.compiled:
        return Choice(_torch(workload))
    try:
        return Choice(_checked(workload))
    except UnsupportedError as error:
        return Choice(_torch(workload), f"OpenVINO cannot: {error}")


def _torch(workload: Workload) -> TorchEngine:
    return TorchEngine(
        _fold_norms(workload.prefix),
        workload.preprocess,
        workload.device,
        workload.precision,
        workload.pad_to,
        workload.compiled,
    )


def _openvino(workload: Workload) -> OpenVinoEngine:
    if openvino_engine.name() is None:
        raise UnsupportedError("it is not installed")
    if workload.precision not in openvino_engine.PRECISIONS:
        raise UnsupportedError(f"it does not compute in {workload.precision}")
    return OpenVinoEngine(
        _fold_norms(workload.prefix),
        workload.preprocess,
        workload.precision,
        workload.threads,
    )


def _fold_norms(prefix: nn.Module) -> nn.Module:
    """Fold batch norms into their convolutions: the same function, fewer passes.

    A graph is copied; another module is returned as it is.
    """
    return fuse(prefix, no_trace=True) if isinstance(prefix, fx.GraphModule) else prefix


def _checked(workload: Workload) -> OpenVinoEngine:
    """OpenVINO, if it computes one image as torch does."""
    engine = _openvino(workload)
    size = workload.preprocess.size
    noise = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8, generator=noise)
    with torch.inference_mode():
        expected = workload.prefix(workload.preprocess.normalise(image))
    if error := _difference(engine(image), expected, MAX_ERROR[workload.precision]):
        raise UnsupportedError(error)
    return engine


def _difference(values: Sequence[Tensor], expected: Sequence[Tensor], most: float) -> str:
    """How `values` differ from those expected, by more than rounding; "" if they do not."""
    if [value.shape for value in values] != [value.shape for value in expected]:
        return "its outputs have other shapes than torch's"
    for value, other in zip(values, expected, strict=True):
        if not (value - other).norm() <= most * other.norm():
            return "its outputs are not close to torch's"
    return ""
