"""Throughput of the processes that decode for a GPU, beside decoding alone.

    python -m bench.loader                             # on drawn images
    python -m bench.loader --photos hymenoptera_data.zip

`decode` renders views on all cores and does nothing with them. `loader` gives them, through shared
memory, to a device that computes nothing: the CPU takes its place. Both run in turn, after all
processes have started. Their processor time counts too: on a machine that does other work, the
ratio of images per second of processor time says more.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import psutil
import torch
from joblib import Parallel, cpu_count, delayed

from bench.drawn_data import write_clean
from pipeline.core import shards
from pipeline.network.loading import view_worker
from pipeline.network.loading.parallel_forward import DeviceForward, Tensors
from pipeline.network.views import EncodedImages, Preprocess, Views

PREPROCESS = Preprocess(
    size=224, resize=256, interpolation="bilinear", mean=[0.5] * 3, std=[0.25] * 3
)
BATCH = 64  # small, so that a few seconds are many batches
AHEAD = 12  # more than are ever decoded ahead


@dataclass(frozen=True)
class Rate:
    """Images, and what they took."""

    images: int
    seconds: float
    processor_seconds: float

    @property
    def per_second(self) -> float:
        return self.images / self.seconds

    @property
    def per_processor_second(self) -> float:
        return self.images / self.processor_seconds


def open_views(clean: Path, preprocess: Preprocess = PREPROCESS) -> Views:
    """The evaluation views of all images."""
    paths = shards.paths(clean)
    counts = [shards.read(path).num_rows for path in paths]
    places = [(path, np.arange(n, dtype=np.int32)) for path, n in zip(paths, counts, strict=True)]
    encoded = EncodedImages.at(places)
    return Views(encoded.ids, encoded, preprocess)


def decode_rate(views: Views, seconds: float, processes: int) -> Rate:
    """Views rendered by so many processes that do nothing else."""
    with Parallel(processes) as parallel:
        parallel(delayed(_render)(views, 0.1, number) for number in range(processes))
        results = parallel(delayed(_render)(views, seconds, number) for number in range(processes))
    images, times = zip(*results, strict=True)
    return Rate(sum(images), seconds, sum(times))


def _render(views: Views, seconds: float, number: int) -> tuple[int, float]:
    """Images and processor time."""
    torch.set_num_threads(1)
    view_worker.prepare()  # the same allocator settings as the loader's processes have
    processor, end = time.process_time(), time.perf_counter() + seconds
    for count, index in enumerate(islice(cycle(range(len(views))), 97 * number, None), start=1):
        views[index]
        if time.perf_counter() > end:
            return count, time.process_time() - processor
    raise AssertionError


def endless(views: Views) -> Iterator[Sequence[int]]:
    """Batches of indices, for ever."""
    indices = cycle(range(len(views)))
    return iter(lambda: list(islice(indices, BATCH)), [])


def loader_rate(results: Iterator[Tensors], ahead: int, seconds: float) -> Rate:
    """Images per second of a pass without end.

    Args:
        ahead: Batches that may have been decoded before, which do not count.
    """
    for _ in range(ahead):
        next(results)
    start, processor, images = time.perf_counter(), _processor_seconds(), 0
    while time.perf_counter() < start + seconds:
        images += len(next(results)[0])
    return Rate(images, time.perf_counter() - start, _processor_seconds() - processor)


def _processor_seconds() -> float:
    """Of this process and of those that it started and that still run."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def nothing(pixels: torch.Tensor) -> Tensors:
    """A forward pass that computes nothing."""
    return (pixels[:, 0, 0, 0].clone(),)


def compare(views: Views, seconds: float, repeats: int) -> None:
    """Print the rates of both, and their ratios pair by pair."""
    processes = cpu_count()
    cpu = torch.device("cpu")
    device_forward = DeviceForward([cpu], [nothing], views.size, BATCH, processes)
    results = device_forward(views, endless(views))
    pairs = [
        (decode_rate(views, seconds, processes), loader_rate(results, AHEAD, seconds))
        for _ in range(repeats)
    ]
    device_forward.close()
    for name, rates in zip(("decode", "loader"), zip(*pairs, strict=True), strict=True):
        show(f"{name}, images/s", [rate.per_second for rate in rates])
        show(f"{name}, images/s of processor", [rate.per_processor_second for rate in rates])
    show("loader / decode", [loader.per_second / decode.per_second for decode, loader in pairs])
    ratios = [loader.per_processor_second / decode.per_processor_second for decode, loader in pairs]
    show("loader / decode, by processor time", ratios)


def show(name: str, values: Sequence[float]) -> None:
    """Median, spread and n."""
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"{name}: {middle:.4g} ({low:.4g} to {high:.4g}, n={len(values)})")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, help="a zip of JPEGs; without it, drawn images")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clean = write_clean(Path(folder), options.images, options.photos)
        compare(open_views(clean), options.seconds, options.repeats)


if __name__ == "__main__":
    main()
