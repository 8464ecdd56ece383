"""Images per second of `pipeline predict`, against the floor of decoding and forward passes.

    python -m bench.predict --model models --photos petimages_sample.zip --images 2000

`work` is the time from the first image to the last, after imports and with model and decoders ready
and the archive in the page cache; `command` is the whole command. The floor is OpenCV's decoding
and resizing of every photograph, and then the forward passes over the views, each on all cores,
without reading, processes or checks. Memory is the peak resident size of the command and its
decoders together, for some images and for all.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import psutil
import torch

from bench.project import ROOT
from bench.train import show, show_ratio
from pipeline.images import decoding
from pipeline.inference.classifier import Classifier
from pipeline.inference.decoder_pool import DecoderPool
from pipeline.inference.inputs import ImageInputs
from pipeline.inference.predict import predict
from pipeline.network import device, feature_store
from pipeline.network.loading.parallel_forward import SUB_BATCH


def pack(photos: Path, number: int, folder: Path) -> Path:
    """An archive of `number` photographs from `photos`, repeated if there are fewer."""
    with zipfile.ZipFile(photos) as source:
        names = sorted(
            name for name in source.namelist() if name.lower().endswith((".jpg", ".jpeg"))
        )
        path = folder / f"{number}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for place, name in enumerate(islice(cycle(names), number)):
                archive.writestr(f"{place:06d}.jpg", source.read(name))
    return path


def work(classifier: Classifier, archive: Path) -> float:
    """Seconds from the first image to the last."""
    with ImageInputs(BytesIO()) as inputs, DecoderPool() as decoders:
        decoders.start()
        decoders.wait()
        start = time.perf_counter()
        for _ in predict(classifier, decoders, inputs.images([str(archive)])):
            pass
        return time.perf_counter() - start


def floor(classifier: Classifier, encoded: Sequence[bytes]) -> float:
    """Seconds to decode all images and then run all forward passes."""
    cores = torch.get_num_threads()
    parts = feature_store.chunks(np.arange(len(encoded)), SUB_BATCH, 1)

    def decode(part: Sequence[int]) -> torch.Tensor:
        return torch.stack([classifier.view(decoding.decode(encoded[place])) for place in part])

    start = time.perf_counter()
    with device.one_thread_each(), ThreadPoolExecutor(cores) as pool:
        views = list(pool.map(decode, parts))
        assert len(list(pool.map(classifier.probabilities, views))) == len(parts)
    return time.perf_counter() - start


def command(model: Path, archive: Path) -> tuple[float, float]:
    """Seconds, and peak MiB of the process and its children."""
    start, peak = time.perf_counter(), 0.0
    arguments = ["-m", "pipeline", "predict", str(archive), "--model", str(model)]
    with subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:
        monitored = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _resident_bytes(monitored))
            time.sleep(0.05)
    return time.perf_counter() - start, peak / 2**20


def _resident_bytes(process: psutil.Process) -> float:
    try:
        processes = [process, *process.children(recursive=True)]
        return float(sum(member.memory_info().rss for member in processes))
    except psutil.NoSuchProcess:
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--photos", type=Path, required=True, help="an archive of photographs")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        compare(options.model, options.photos, options.images, options.repeats, Path(folder))


def compare(model: Path, photos: Path, number: int, repeats: int, folder: Path) -> None:
    """Print rates and memory."""
    whole, part = pack(photos, number, folder), pack(photos, number // 8, folder)
    with zipfile.ZipFile(whole) as archive:
        encoded = [archive.read(name) for name in archive.namelist()]
    classifier = Classifier(model)
    for _ in range(2):  # warm up
        work(classifier, part)
        floor(classifier, encoded[: number // 8])
    rates: dict[str, list[float]] = {"work": [], "floor": [], "command": []}
    memory: dict[str, list[float]] = {"whole": [], "part": []}
    for _ in range(repeats):
        rates["floor"].append(number / floor(classifier, encoded))
        rates["work"].append(number / work(classifier, whole))
        seconds, resident = command(model, whole)
        rates["command"].append(number / seconds)
        memory["whole"].append(resident)
        memory["part"].append(command(model, part)[1])
    for name, values in rates.items():
        show(name, values, "images/s", 0)
    show_ratio("work / floor", rates["work"], rates["floor"])
    show_ratio("command / floor", rates["command"], rates["floor"])
    show(f"memory, {number} images", memory["whole"], "MiB", 0)
    show(f"memory, {number // 8} images", memory["part"], "MiB", 0)


if __name__ == "__main__":
    main()
