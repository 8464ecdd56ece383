"""What this machine contributes to computed numbers: their last bits differ between processors."""

import os
import platform
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")  # Linux
# Libraries choose their code by these: by name and vendor, by instructions, by the cache's size.
CPU_FIELDS = (
    "model name",
    "flags",
    "Features",
    "CPU implementer",
    "CPU part",
    "cache size",
)
# Environment variables that make torch, oneDNN, MKL, OpenCV, libjpeg or CUDA choose other code.
VARIABLES = (
    "ATEN_CPU_",
    "CUBLAS_",
    "DNNL_",
    "JSIMD_",
    "MKL_CBWR",
    "MKL_ENABLE_",
    "NVIDIA_TF32_",
    "ONEDNN_",
    "OPENCV_CPU_",
    "OPENCV_IPP",
)


def arithmetic() -> dict[str, str]:
    """Facts that decide which code the numeric libraries run, and so the last bits of results.

    A memo that machines share (a home folder on a server, a cache of CI) has a part for each.
    """
    variables = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}
    system = {"machine": platform.machine(), "macos": platform.mac_ver()[0]}
    return system | _processor() | variables


def _processor() -> dict[str, str]:
    """The fields of the first processor that decide."""
    if not CPU_INFO.exists():
        return {"processor": platform.processor()}
    fields: dict[str, str] = {}
    with CPU_INFO.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() in fields:  # the next processor
                break
            fields[name.strip()] = value.strip()
    return {name: fields[name] for name in CPU_FIELDS if name in fields}
