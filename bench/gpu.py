"""What one GPU computes, whether it is right, and how fast: in less than eight minutes.

    make gpu                                  # or python -m bench.gpu
    python -m bench.gpu --json gpu.json
    python -m bench.gpu --weights FILE        # a state dict of --backbone; else from a fixed seed
    python -m bench.gpu --tiny                # small, on any machine: the tests run this

It needs torch, torchvision, timm, numpy, pyarrow, OpenCV, and the small packages that
bench.gpu_wheels lists and collects; not DVC, not MLflow, no network and no data: images are drawn.
Without a GPU it compares the CPU with itself. Each check is PASS or FAIL, or a figure; one that
fails does not stop the others. The exit code is 1 if a check fails.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
import torchvision

from bench import gpu_checks, gpu_rates
from bench.gpu_bench import Bench, Row
from pipeline.core import project

PARTS: dict[str, tuple[Callable[[Bench], Iterator[Row]], float]] = {
    # With the seconds that a part may take: together less than eight minutes.
    "prefix values": (gpu_checks.prefix_values, 40),
    "company": (gpu_checks.company, 20),
    "gradients": (gpu_checks.gradients, 30),
    "determinism": (gpu_checks.determinism, 60),
    "resident features": (gpu_checks.resident_features, 30),
    "accuracy": (gpu_checks.accuracy, 80),
    "features": (gpu_rates.features, 100),
    "head": (gpu_rates.head, 40),
    "fine-tuning": (gpu_rates.fine_tuning, 60),
}


def run(bench: Bench, names: list[str]) -> Iterator[Row]:
    """The rows of all parts; a part that ends early has one that says why.

    Each runs in a thread: a signal would reach a call that waits for the GPU only when it ends. A
    part that takes too long goes on beside the next ones.
    """
    for name in names:
        part, seconds = PARTS[name]
        rows: list[Row] = []
        thread = threading.Thread(target=_run_part, args=(name, part, bench, rows), daemon=True)
        thread.start()
        thread.join(seconds)
        yield from list(rows)
        if thread.is_alive():
            yield Row(name, "FAIL", note=f"it took longer than {seconds} s")


def _run_part(
    name: str, part: Callable[[Bench], Iterator[Row]], bench: Bench, rows: list[Row]
) -> None:
    try:
        rows.extend(part(bench))
    except Exception as error:  # noqa: BLE001 # the other parts still run
        traceback.print_exc()
        rows.append(Row(name, "FAIL", note=_first_line(error)))


def _first_line(error: Exception) -> str:
    return " ".join([type(error).__name__, *str(error).splitlines()[:1]])


def facts(bench: Bench) -> dict[str, object]:
    """The machine and the versions."""
    name = "none, the CPU is compared with itself"
    if bench.device.type == "cuda":
        properties = torch.cuda.get_device_properties(bench.device)
        name = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return {
        "card": name,
        "cards": torch.cuda.device_count(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": torch.version.cuda,
        "backbone": bench.params.model.backbone,
        "weights": bench.params.model.weights,
        "pixels": bench.params.images.size,
    }


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | result | value | note |", "|---|---|---|---|"]
    for row in rows:
        value = "" if row.value is None else f"{row.value:.4g} {row.unit}".strip()
        lines.append(f"| {row.name} | {row.status} | {value} | {row.note} |")
    return "\n".join(lines)


def main() -> int:
    """Run all parts; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="few small images and short loops")
    parser.add_argument("--json", type=Path, help="write the table as JSON there too")
    parser.add_argument("--weights", default="none", help="a state dict of the backbone")
    parser.add_argument("--backbone", help="by default mobilenet_v2; resnet9_narrow with --tiny")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them, by commas")
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_ROOT"] = folder  # an empty memo
        assert project.cache().is_relative_to(folder)
        backbone = options.backbone or ("resnet9_narrow" if options.tiny else "mobilenet_v2")
        bench = Bench.build(Path(folder), backbone, options.weights, options.tiny)
        rows = []
        for row in run(bench, options.parts.split(",")):
            rows.append(row)
            print(f"{time.perf_counter() - start:5.0f} s  {row.name}: {row.status}", flush=True)
    rows.append(Row("whole run", "figure", time.perf_counter() - start, "s"))
    result = {"machine": facts(bench), "rows": [asdict(row) for row in rows]}
    print(f"\n{', '.join(f'{key} {value}' for key, value in facts(bench).items())}\n")
    print(f"{table(rows)}\n\n{json.dumps(result)}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return int(any(row.status == "FAIL" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
