"""Images per second of acquire, against loops that only download; and its memory by list length.

    python -m bench.acquire            # rates at 50 ms latency
    python -m bench.acquire --memory   # peak memory with 10,000 and 100,000 addresses

Each loop runs in its own process, in turn, against one server. `acquire` is everything from the
list to the shards: downloading, hashing, storing, writing.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter

from bench import ratios
from bench.server import serving
from pipeline.core import shards
from pipeline.params import load_params
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.raw_image import RawImage
from pipeline.stages.acquire.sources import web_photos
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import ContentStore

THREADS = 64
ROOT = Path(__file__).resolve().parent.parent


def sequential(host: str, count: int) -> None:
    """The loop of a tutorial, with one session."""
    with requests.Session() as session:
        for number in range(count):
            assert session.get(f"{host}/{number}.jpg", timeout=30).content


def threads(host: str, count: int) -> None:
    """The fastest bare loop of requests: 64 threads on one pool, bodies dropped."""
    with requests.Session() as session, ThreadPoolExecutor(THREADS) as pool:
        session.mount("http://", HTTPAdapter(pool_maxsize=THREADS))
        urls = (f"{host}/{number}.jpg" for number in range(count))
        for body in pool.map(lambda url: session.get(url, timeout=30).content, urls):
            assert body


def acquire(_host: str, count: int) -> None:
    """The work of the stage, without the limit per host."""
    params = load_params(ROOT / "params.yaml").acquire.model_copy(
        update={"allow_private": True, "per_host_per_second": 0, "workers": THREADS}
    )
    with Client(params) as client, ContentStore() as store:
        images = web_photos.from_list(Path("list.csv"), None, client, store, params, ClassNames())
        rows = (image.row() for image in images if isinstance(image, RawImage))
        assert shards.write(Path("raw"), shards.RAW, rows) == count


LOOPS = {loop.__name__: loop for loop in (sequential, threads, acquire)}


def measure(name: str, host: str, count: int) -> dict[str, float]:
    """Run one loop in a fresh process and folder."""
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "list.csv").open("w") as file:
            file.write("url,label\n")
            file.writelines(f"{host}/{number}.jpg,{number % 10}\n" for number in range(count))
        answer = subprocess.run(
            [sys.executable, "-m", "bench.acquire", "--run", name, host, str(count)],
            cwd=folder,
            check=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"DVC_ROOT": folder, "PYTHONPATH": str(ROOT), "NO_PROXY": "*"},
        )
    measured: dict[str, float] = json.loads(answer.stdout)
    return measured


def run(name: str, host: str, count: int) -> None:
    """Measure one loop in this process."""
    start = time.perf_counter()
    LOOPS[name](host, count)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rate": count / seconds, "mebibytes": peak}))


def compare_rates(host: str, count: int, repeats: int) -> None:
    rates: dict[str, list[float]] = {name: [] for name in LOOPS}
    for _ in range(repeats):
        for name, values in rates.items():
            values.append(
                measure(name, host, count // 20 if name == "sequential" else count)["rate"]
            )
    ratios.show(rates, "acquire", ("sequential", "threads"))


def memory(host: str) -> None:
    for count in (10_000, 100_000):
        measured = measure("acquire", host, count)
        print(f"{count:>7} addresses: {measured['mebibytes']:.0f} MiB, {measured['rate']:.0f}/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--bytes", type=int, default=40_000, help="of an image")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--run", nargs=3, metavar=("LOOP", "HOST", "COUNT"), help="internal")
    options = parser.parse_args()
    if options.run:
        run(options.run[0], options.run[1], int(options.run[2]))
        return
    python, library = platform.python_version(), requests.__version__
    print(f"{os.cpu_count()} cores, Python {python}, requests {library}")
    if options.memory:
        with serving(0, 2_000) as host:
            memory(host)
    else:
        with serving(options.latency, options.bytes) as host:
            compare_rates(host, options.images, options.repeats)


if __name__ == "__main__":
    main()
