"""Seconds and peak memory of each stage on a data set of many small classes.

    python -m bench.many_classes [--classes 10000] [--images 20] [--folder FOLDER]

Images of 48x48 pixels are drawn: the colours of their class below noise. The network is a tiny one.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from ruamel.yaml import YAML

from pipeline.params import load_params, with_overrides

ROOT = Path(__file__).resolve().parent.parent
SIDE = 48  # pixels of an image
TILES = 4  # per side, each in a colour of the class
NOISE = 40  # standard deviation, of 255
PARAMS = {
    "dataset.name": "images",
    "split.val": 3,
    "split.test": 3,
    "images.size": 48,
    "images.resize": 48,
    "images.normalise": "half",
    "images.augment": "none",
    "model.backbone": "cifar_cnn",
    "model.weights": "none",
    "model.trainable": "head",
    "features.views": 0,
    "train.epochs": 2,
    "train.batch_size": 256,
    "train.label_smoothing": 0.0,
}


def draw(folder: Path, classes: int, images: int) -> None:
    """Write a folder of PNG files per class."""
    random = np.random.default_rng(0)
    for number in range(classes):
        target = folder / f"class {number:05d}"
        target.mkdir(parents=True)
        tiles = random.integers(0, 256, (TILES, TILES, 3)).astype(np.uint8)
        colours = cv2.resize(tiles, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST).astype(float)
        for image in range(images):
            noise = random.normal(0, NOISE, colours.shape)
            pixels = np.clip(colours + noise, 0, 255).astype(np.uint8)
            cv2.imwrite(str(target / f"{image}.png"), pixels)


def commands(source: Path) -> Iterator[tuple[str, list[str]]]:
    """Each stage's name and command, as in dvc.yaml."""
    stages = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
    for name, stage in stages.items():
        command = stage["cmd"].replace("datasets/${dataset.name}", str(ROOT / "datasets/images"))
        words = shlex.split(command.replace("${dataset.source}", str(source)))
        yield name, [sys.executable, *words[1:]]


def run(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and peak memory, in MiB, of a stage and the processes that it waits for."""
    environment = {**os.environ, "DVC_ROOT": str(folder), "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    with (folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed: see {folder / 'output.txt'}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def size(path: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=20, help="per class")
    parser.add_argument("--folder", type=Path, help="where to keep the data set and the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        source, project = folder / "source", folder / "project"
        if not source.exists():
            draw(source, options.classes, options.images)
        (project / "reports").mkdir(parents=True, exist_ok=True)
        params = with_overrides(load_params(ROOT / "params.yaml"), PARAMS)
        YAML(typ="safe", pure=True).dump(params.model_dump(), project / "params.yaml")
        for name, command in commands(source):
            seconds, peak = run(command, project)
            print(f"{name:>9}: {seconds:7.1f} s {peak:7.0f} MiB", flush=True)
        for file in sorted((project / "reports").rglob("*")):
            print(f"{size(file) / 1e6:9.3f} MB {file.relative_to(project)}")


if __name__ == "__main__":
    main()
