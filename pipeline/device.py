"""What computes: lightning-fabric's view of the machine, made deterministic."""

import ctypes
import os
import sys
import warnings

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException

from pipeline.errors import PipelineError
from pipeline.params import Device


def start(device: Device) -> Fabric:
    """One device, ready to compute the same bytes every time.

    Raises:
        PipelineError: the machine lacks the accelerator, or it cannot do the precision.
    """
    _keep_freed_memory()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    # cuBLAS is deterministic only with this, read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # hints about unused accelerators
            fabric = Fabric(accelerator=device.accelerator, devices=1, precision=device.precision)
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise PipelineError(
            f"device.accelerator={device.accelerator} with device.precision={device.precision} "
            f"does not work here ({str(error).splitlines()[0]}): use device.accelerator=auto"
        ) from error
    chosen = fabric.strategy.precision.precision
    if chosen != device.precision:  # Fabric only warns
        raise PipelineError(
            f"device.precision={device.precision} is not for {fabric.device.type}: use {chosen}"
        )
    return fabric


def _keep_freed_memory() -> None:
    """Keep glibc from handing memory back after every forward pass.

    Page faults on getting it again cost half the time of a forward pass on a CPU.
    Source: malloc.h; M_TRIM_THRESHOLD is -1, M_TOP_PAD is -2, M_MMAP_MAX is -4.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 256 * 2**20)):
            mallopt(option, value)
