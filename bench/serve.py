"""Images per second of `pipeline serve`, against `pipeline predict` on the same photographs.

    python -m bench.serve --model models --photos petimages_sample.zip --images 2000
    python -m bench.serve --model models --photos petimages_sample.zip --hostile --images 10000

32 clients in a process of their own (bench.serve_clients) send a photograph at a time. They use the
server's cores, so their measured CPU time, spread over all cores, is subtracted from the time that
passes. `predict` is measured as in bench.predict, without its start. With `--hostile`, a tenth of
the requests are hostile, and the memory of the server and its decoders is shown as it goes: in this
run nothing else is measured.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.predict import pack, work
from bench.project import ROOT
from bench.train import show, show_ratio
from pipeline.inference.classifier import Classifier

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
PARTS = 5  # of a run with hostile requests; the memory is looked at after each


@contextmanager
def served(model: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a server, and its process."""
    command = [sys.executable, "-m", "pipeline", "serve", str(model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout
        try:
            words = process.stdout.readline().split()
            yield words[1], psutil.Process(process.pid)
        finally:
            process.terminate()


def ask(url: str, photos: Path, number: int, clients: int, hostile: float = 0) -> dict[str, Any]:
    """What the clients saw."""
    words = [url, str(photos), "--clients", str(clients), "--requests", str(number)]
    command = [sys.executable, "-m", "bench.serve_clients", *words, "--hostile", str(hostile)]
    process = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, text=True, env=ENVIRONMENT
    )
    seen: dict[str, Any] = json.loads(process.stdout)
    return seen


def resident_mib(server: psutil.Process) -> float:
    """Private memory of the server and its decoders."""
    members = [server, *server.children(recursive=True)]
    return float(sum(member.memory_full_info().uss for member in members)) / 2**20


def compare(model: Path, photos: Path, number: int, clients: int, repeats: int) -> None:
    """Print rates and times."""
    classifier, cores = Classifier(model), os.cpu_count() or 1
    rates: dict[str, list[float]] = {"predict": [], "serve": [], "serve, clients subtracted": []}
    seconds = []
    with served(model) as (url, _):
        ask(url, photos, number // 8, clients)  # warm up
        work(classifier, photos)
        for _ in range(repeats):
            seen = ask(url, photos, number, clients)
            assert all(status.startswith("200 ") for status in seen["good"]), seen["good"]
            rates["serve"].append(number / seen["wall"])
            rates["serve, clients subtracted"].append(number / (seen["wall"] - seen["cpu"] / cores))
            seconds += seen["seconds"]
            rates["predict"].append(number / work(classifier, photos))
    for name, values in rates.items():
        show(name, values, "images/s", 0)
    show_ratio("serve / predict", rates["serve, clients subtracted"], rates["predict"])
    median, high = np.percentile(seconds, [50, 99]) * 1000
    print(f"time of a request: median {median:.0f} ms, p99 {high:.0f} ms, n={len(seconds)}")


def survive(model: Path, photos: Path, number: int, clients: int) -> None:
    """Print what happened to good and hostile requests, and the memory."""
    good, hostile = Counter[str](), Counter[str]()
    with served(model) as (url, server):
        ask(url, photos, number // 20, clients)  # warm up
        print(f"memory: {resident_mib(server):.0f} MiB")
        for part in range(1, PARTS + 1):
            seen = ask(url, photos, number // PARTS, clients, 0.1)
            good.update(seen["good"])
            hostile.update(seen["hostile"])
            memory = resident_mib(server)
            print(f"memory after {part * number // PARTS} requests: {memory:.0f} MiB")
    print(f"photographs: {dict(good)}")
    print(f"hostile: {dict(hostile)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--photos", type=Path, required=True, help="an archive of photographs")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--hostile", action="store_true")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        photos = pack(options.photos, options.images, Path(folder))
        if options.hostile:
            survive(options.model, photos, options.images, options.clients)
        else:
            compare(options.model, photos, options.images, options.clients, options.repeats)


if __name__ == "__main__":
    main()
