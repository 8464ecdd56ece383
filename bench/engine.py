"""Seconds and accuracy of stage features, by what computes the frozen part on a CPU.

    python -m bench.engine --photos hymenoptera_data.zip
    python -m bench.engine --engines torch,openvino -S model.backbone=resnet50

Each figure is of a whole process, as DVC starts it: imports, the engine's construction, decoding
and writing included. The engines take turns; ratios are pair by pair. AOTInductor compiles once,
before the first turn, and its library stays on disk; the others are built in every process.

`cos` and `error` compare the evaluation views' features with those of torch in float32: the least
cosine of an image, and the mean absolute difference over the mean absolute value.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from bench.project import FEATURES, ROOT, STAGES, Project
from bench.train import prepare, show, show_ratio
from pipeline.core.errors import PipelineError
from pipeline.network import engines
from pipeline.network.engines import Choice, Workload
from pipeline.network.loading.parallel_forward import Tensors
from pipeline.stages.features import __main__ as features

REFERENCE = "torch-float32"
ENGINES = f"torch,openvino,{REFERENCE},openvino-float32,onnxruntime-float32,inductor"
LIBRARY = "inductor.pt2"


class OnnxRuntime:
    """float32, a padded batch on each of several threads."""

    name = "torch"  # features.json knows no other

    def __init__(self, workload: Workload) -> None:
        import onnxruntime

        prefix, shape = _graph(workload), _shape(workload)
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            file = str(Path(folder) / "prefix.onnx")
            torch.onnx.export(prefix, (torch.zeros(shape),), file, dynamo=False)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self._session = onnxruntime.InferenceSession(
                file, options, providers=["CPUExecutionProvider"]
            )
        self._workload = workload
        self._input = self._session.get_inputs()[0].name

    def __call__(self, pixels: Tensor) -> Tensors:
        images, count = _padded(pixels, self._workload).contiguous(), len(pixels)
        values = self._session.run(None, {self._input: images.numpy()})
        return tuple(torch.from_numpy(value[:count]) for value in values)


class Inductor:
    """bfloat16, a padded batch on each of several threads, from the library on disk."""

    name = "torch"

    def __init__(self, workload: Workload) -> None:
        from torch._inductor import aoti_load_package

        runners = workload.threads
        load: Any = aoti_load_package
        self._model = load(str(Path.cwd() / LIBRARY), num_runners=runners)
        self._workload = workload

    def __call__(self, pixels: Tensor) -> Tensors:
        images, count = _padded(pixels, self._workload), len(pixels)
        images = images.bfloat16().contiguous(memory_format=torch.channels_last)
        return tuple(value[:count] for value in self._model(images))


def _graph(workload: Workload) -> nn.Module:
    assert isinstance(workload.prefix, fx.GraphModule)
    return fuse(workload.prefix, no_trace=True)


def _shape(workload: Workload) -> tuple[int, ...]:
    return (workload.pad_to, 3, workload.preprocess.size, workload.preprocess.size)


def _padded(pixels: Tensor, workload: Workload) -> Tensor:
    images = workload.preprocess.normalise(pixels)
    missing = workload.pad_to - len(images)
    return nn.functional.pad(images, (0, 0, 0, 0, 0, 0, 0, missing))


def compile_library(workload: Workload) -> Choice:
    """Write the library of AOTInductor, and compute in torch."""
    from torch._inductor import aoti_compile_and_package, config

    prefix = _graph(workload).bfloat16().to(memory_format=torch.channels_last)
    images = torch.zeros(_shape(workload), dtype=torch.bfloat16)
    images = images.contiguous(memory_format=torch.channels_last)
    compiling: Any = aoti_compile_and_package
    with torch.no_grad(), config.patch(freezing=True):
        compiling(torch.export.export(prefix, (images,)), package_path=str(Path.cwd() / LIBRARY))
    return Choice(engines._torch(workload))


CHOICES = {
    "torch": lambda workload: Choice(engines._torch(workload)),
    "openvino": engines._fastest,
    "onnxruntime": lambda workload: Choice(OnnxRuntime(workload)),
    "inductor": lambda workload: Choice(Inductor(workload)),
    "compile": compile_library,
}


def run_stage(name: str) -> None:
    """Stage features in the working directory, with an engine."""
    with patch.object(engines, "_fastest", CHOICES[name]):
        features.main(*STAGES["pipeline.stages.features"])


def seconds(project: Project, name: str) -> dict[str, float]:
    """Wall-clock and CPU seconds of the stage's process with an engine."""
    engine, _, precision = name.partition("-")
    project.configure(features__precision="32-true" if precision else "auto")
    project.forget()
    cpu, start = _cpu_seconds(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "bench.engine", "--run", engine],
        cwd=project.folder,
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"DVC_ROOT": str(project.folder), "PYTHONPATH": str(ROOT)},
    )
    return {"s": time.perf_counter() - start, "CPU-s": _cpu_seconds() - cpu}


def _cpu_seconds() -> float:
    """Of this process, which only waits for the stage, and of those it has waited for."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def evaluation_features(project: Project) -> list[npt.NDArray[np.float64]]:
    """Of each tensor at the cut, one row per image."""
    files = sorted((project.folder / FEATURES).glob("view_0.tensor_*.npy"))
    return [np.load(file).astype(np.float64).reshape(len(np.load(file)), -1) for file in files]


def show_accuracy(
    name: str, values: list[npt.NDArray[np.float64]], expected: list[npt.NDArray[np.float64]]
) -> None:
    for number, (value, other) in enumerate(zip(values, expected, strict=True)):
        norms = np.linalg.norm(value, axis=1) * np.linalg.norm(other, axis=1)
        cosine = ((value * other).sum(axis=1) / norms).min()
        error = np.abs(value - other).mean() / np.abs(other).mean()
        largest = np.abs(value - other).max() / np.abs(other).max()
        print(f"{name}, tensor {number}: cos {cosine:.7f}, error {error:.1e}, max {largest:.1e}")


def compare(project: Project, names: list[str], repeats: int) -> None:
    """Each engine in turn."""
    if "inductor" in names:
        print(f"inductor compiles once: {seconds(project, 'compile')['s']:.1f} s", flush=True)
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    outputs = {}
    for _ in range(repeats):
        for name in names:
            figures[name].append(seconds(project, name))
            outputs[name] = evaluation_features(project)
    print(json.loads((project.folder / FEATURES / "features.json").read_text())["why"])
    for unit in ("s", "CPU-s"):
        columns = {name: [turn[unit] for turn in turns] for name, turns in figures.items()}
        for name, values in columns.items():
            show(name, values, unit)
        for name, values in columns.items():
            if name != names[0]:
                show_ratio(f"{names[0]} / {name}, {unit}", columns[names[0]], values)
    if REFERENCE in outputs:
        for name, tensors in outputs.items():
            show_accuracy(name, tensors, outputs[REFERENCE])


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="an archive of class folders")
    parser.add_argument("--engines", default=ENGINES, metavar="A,B")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--views", type=int, default=0, help="augmented, per training image")
    parser.add_argument("-S", dest="changed", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--run", choices=CHOICES, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = options()
    if arguments.run:
        run_stage(arguments.run)
        return
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        project = prepare(Path(folder), arguments.photos, arguments.views, arguments.changed)
        try:
            compare(project, arguments.engines.split(","), arguments.repeats)
        except PipelineError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
