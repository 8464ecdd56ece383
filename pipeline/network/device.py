"""The device that computes, through lightning-fabric, made deterministic."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException

from pipeline.core.errors import PipelineError
from pipeline.network import processes
from pipeline.network.malloc import keep_freed_memory
from pipeline.params import DeviceParams

OF_FABRIC = (
    "LT_"  # variables such as LT_NUM_NODES, which Fabric prefers to its arguments: to params
)
# Texts of RuntimeErrors about a lack of memory: on a CPU, in cuBLAS, on a Mac.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)


def start(device: DeviceParams, alone: bool = False) -> Fabric:
    """The device, or those that train together, set up to compute the same bytes every time.

    Args:
        alone: Whether this process uses one device, whatever `device.devices` and `device.nodes`
            are.

    Raises:
        PipelineError: the machine lacks the accelerator, or it cannot do the precision; or another
            number of processes was started.
    """
    _set_up_process()
    devices, nodes = (1, 1) if alone else (device.devices, device.nodes)
    if not alone:
        processes.check_start(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # hints about unused accelerators
            fabric = Fabric(
                accelerator=device.accelerator,
                devices=devices,
                num_nodes=nodes,
                precision=device.precision,
                strategy="auto" if devices * nodes == 1 else "ddp",
                plugins=[processes.environment()],
            )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise PipelineError(
            f"device.accelerator={device.accelerator} with device.precision={device.precision} and "
            f"device.devices={devices} does not work here ({str(error).splitlines()[0]}): use "
            "device.accelerator=auto and device.devices=1"
        ) from error
    if not torch.cuda.is_available():
        # Fabric makes torch check for a GPU through NVML, and optimizers check in every step.
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    precision = fabric.strategy.precision.precision
    if precision != device.precision:  # Fabric only warns
        raise PipelineError(
            f"device.precision={device.precision} is not for {fabric.device.type}: use {precision}"
        )
    return fabric


def _set_up_process() -> None:
    """Make torch deterministic, keep freed memory, and silence lightning-fabric."""
    keep_freed_memory()
    # As torch.use_deterministic_algorithms, which imports the compiler to configure it.
    torch.set_deterministic_debug_mode("warn")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
    torch.backends.cudnn.benchmark = False
    # cuBLAS is deterministic only with this, read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for name in [name for name in os.environ if name.startswith(OF_FABRIC)]:
        del os.environ[name]
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # not the rank of each process


def arithmetic(device: torch.device) -> dict[str, object]:
    """What decides the last bits of results, besides the processor and torch's version."""
    if device.type != "cuda":  # the build's libraries, and the instructions that it uses
        return {"type": device.type, "build": torch.__config__.show()}
    properties = torch.cuda.get_device_properties(device)
    return {
        "type": device.type,
        "gpu": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "cublas": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "tf32": os.environ.get("NVIDIA_TF32_OVERRIDE"),
    }


def fastest(precision: str, device: torch.device) -> str:
    """`features.precision`, with `auto` replaced by the fastest that is precise enough."""
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
def explain_out_of_memory(advice: str) -> Iterator[None]:
    """Turn a lack of memory into one sentence with `advice`.

    Raises:
        PipelineError: the device or the machine has too little memory.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise PipelineError(f"out of memory: {advice}") from error
    except RuntimeError as error:
        if not any(text in str(error) for text in OUT_OF_MEMORY):
            raise
        raise PipelineError(f"out of memory: {advice}") from error


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Run each of torch's operations on the calling thread only.

    Threads that compute a batch each then never wait for one another within an operation: on two
    cores forward passes are 1.5 times as fast, and results do not depend on the number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
