"""What computes: lightning-fabric's view of the machine, made deterministic."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException

from pipeline.core.errors import PipelineError
from pipeline.network.malloc import keep_freed_memory
from pipeline.params import DeviceParams

# What torch says of it where it has no error of its own: on a CPU, in cuBLAS, on a Mac.
SHORT = (
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)


def start(device: DeviceParams, alone: bool = False) -> Fabric:
    """The device, or with `device.devices` several, ready to compute the same bytes every time.

    Args:
        alone: Whether this process is to work on one device, whatever `device.devices` says.

    Raises:
        PipelineError: the machine lacks the accelerator, or it cannot do the precision.
    """
    keep_freed_memory()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    # cuBLAS is deterministic only with this, read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # which process is which
    devices = 1 if alone else device.devices
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # hints about unused accelerators
            fabric = Fabric(
                accelerator=device.accelerator,
                devices=devices,
                precision=device.precision,
                strategy="auto" if devices == 1 else "ddp",
            )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise PipelineError(
            f"device.accelerator={device.accelerator} with device.precision={device.precision} and "
            f"device.devices={devices} does not work here ({str(error).splitlines()[0]}): use "
            "device.accelerator=auto and device.devices=1"
        ) from error
    if not torch.cuda.is_available():
        # Fabric has torch ask NVML whether there is a GPU, and optimizers ask it in every step.
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    chosen = fabric.strategy.precision.precision
    if chosen != device.precision:  # Fabric only warns
        raise PipelineError(
            f"device.precision={device.precision} is not for {fabric.device.type}: use {chosen}"
        )
    return fabric


def fastest(precision: str, device: torch.device) -> str:
    """`features.precision`, with `auto` as what the device does fastest and still well."""
    if precision != "auto":
        return precision
    if device.type == "cpu":
        return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"
    if device.type == "cuda":
        return (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
        )
    return "32-true"


@contextmanager
def explain_out_of_memory(remedy: str) -> Iterator[None]:
    """Turn a lack of memory into a sentence that says what to do about it.

    Raises:
        PipelineError: the device, or the machine, has not enough.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise PipelineError(f"out of memory: {remedy}") from error
    except RuntimeError as error:
        if not any(short in str(error) for short in SHORT):
            raise
        raise PipelineError(f"out of memory: {remedy}") from error


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let torch's operations run on the thread that asks for them, and on no other.

    Threads that each compute their own batch need not wait for one another within an operation,
    which on two cores makes forward passes half as fast again; and what they compute does not
    depend on how many there are.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
