"""Seconds and peak memory of each stage on a data set of many small classes.

    python -m bench.many_classes [--classes 10000] [--images 20] [--folder FOLDER [--first STAGE]]

With a folder, a run goes on from a stage with the results of those before it. Images of 48x48
pixels are drawn: the colours of their class below noise. The network is a tiny one.
"""

import argparse
import json
import math
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import dropwhile
from pathlib import Path

import cv2
import numpy as np
import psutil
from ruamel.yaml import YAML

from bench import process_tree
from pipeline.params import load_params, with_overrides

ROOT = Path(__file__).resolve().parent.parent
SIDE = 48  # pixels of an image
TILES = 4  # per side, each in a colour of the class
NOISE = 40  # standard deviation, of 255
PARAMS = {
    "dataset.name": "images",
    "filter.near_duplicate_bits": None,  # images of a class are alike, and would be one group
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
    """Each stage's name and the arguments of its Python, as in dvc.yaml."""
    stages = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
    for name, stage in stages.items():
        command = stage["cmd"].replace("datasets/${dataset.name}", str(ROOT / "datasets/images"))
        words = shlex.split(command.replace("${dataset.source}", str(source)))
        yield name, words[1:]


def prepare(project: Path) -> None:
    """What DVC needs to show plots, and the params."""
    (project / "reports").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "dvc.yaml", project)
    params = with_overrides(load_params(ROOT / "params.yaml"), PARAMS)
    YAML(typ="safe", pure=True).dump(params.model_dump(), project / "params.yaml")
    if not (project / ".dvc").exists():
        run(["-m", "dvc", "init", "--no-scm", "--quiet"], project)
        shutil.copytree(ROOT / ".dvc/plots", project / ".dvc/plots")


def run(arguments: list[str], folder: Path) -> process_tree.Usage:
    """What Python took with these arguments, in MiB and CPU seconds."""
    names = (name for name in os.environ if not name.startswith(("DVC_", "MLFLOW_")))
    environment = {name: os.environ[name] for name in names} | {
        "DVC_NO_ANALYTICS": "true",
        "DVC_ROOT": str(folder),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "PYTHONPATH": str(ROOT),
    }
    with (folder / "output.txt").open("ab") as output:
        process = psutil.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        usage = process_tree.watch(process, math.inf)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed: see {folder / 'output.txt'}")
    return usage


def count_metrics(database: Path) -> int:
    """The most metrics that a run in MLflow's database has."""
    with closing(sqlite3.connect(database)) as connection:
        counts = connection.execute("SELECT COUNT(*) FROM latest_metrics GROUP BY run_uuid")
        return max((int(count) for (count,) in counts), default=0)


def size(path: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=20, help="per class")
    parser.add_argument("--folder", type=Path, help="where to keep the data set and the results")
    parser.add_argument("--first", default="acquire", help="the first stage to run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        source, project = folder / "source", folder / "project"
        if not source.exists():
            draw(source, options.classes, options.images)
        prepare(project)
        rest = dropwhile(lambda command: command[0] != options.first, commands(source))
        for name, arguments in rest:
            measure(name, arguments, project)
        measure("plots", ["-m", "dvc", "plots", "show"], project)
        show_results(project)


def measure(name: str, arguments: list[str], project: Path) -> None:
    start = time.perf_counter()
    usage = run(arguments, project)
    print(
        f"{name:>9}: {time.perf_counter() - start:7.1f} s, {usage.cpu_seconds:7.1f} s of CPU, "
        f"{usage.process_mib:6.0f} MiB in the largest process, {usage.rss_mib:6.0f} MiB in all, "
        f"{usage.private_mib:6.0f} MiB of it private",
        flush=True,
    )


def show_results(project: Path) -> None:
    """Sizes of the reports and of the page of plots, and numbers of metrics."""
    pages = [project / "dvc_plots/index.html"]
    for file in sorted(pages + list((project / "reports").rglob("*"))):
        print(f"{size(file) / 1e6:9.3f} MB {file.relative_to(project)}")
    metrics = json.loads((project / "reports/metrics.json").read_text(encoding="utf-8"))
    print(f"{len(metrics)} keys in metrics.json")
    print(f"{count_metrics(project / 'mlflow.db')} metrics of the run in MLflow")


if __name__ == "__main__":
    main()
