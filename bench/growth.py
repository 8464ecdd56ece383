"""Seconds and peak memory of each stage by the number of images.

    python -m bench.growth FOLDER            # measures what FOLDER/growth.csv lacks
    python -m bench.growth FOLDER --stages split --sizes 1000000
    python -m bench.growth_plot growth.png FOLDER/growth.csv   # plots, and a table

The images are drawn: 48x48, in ten classes, in a zip. The network is a small one for 32 pixels,
with random weights. Each stage runs by its command in dvc.yaml, in its own process, with empty
memos. The smallest size shows what a stage takes to start. A stage that takes more than --limit
seconds is stopped. Where filter was not measured, split and describe read images that were not
filtered, as all of them are good.
"""

import argparse
import csv
import os
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import psutil
import pyarrow as pa
from joblib import Parallel, delayed
from ruamel.yaml import YAML

from bench import process_tree
from pipeline.core import columns, shards
from pipeline.core.verdicts_csv import KEEP, VerdictRow, write_verdicts
from pipeline.params import load_params, with_overrides
from pipeline.stages.acquire.raw_image import RawImage

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("acquire", "filter", "split", "describe", "features", "train", "evaluate")
CLASSES = 10
SIDE = 48  # pixels
SIZES = (1_000, 10_000, 100_000, 1_000_000)
BATCH = 5_000  # images drawn by a worker at a time
PARAMS = {
    "dataset.name": "growth",
    "images.size": 32,
    "model.backbone": "cifar_cnn",
    "model.weights": "none",
    "features.views": 1,
    "features.max_gigabytes": 100.0,
    "train.epochs": 3,
    "train.batch_size": 256,
    "device.accelerator": "cpu",
}


NONE: Mapping[str, str] = {}


@dataclass(frozen=True)
class Cost:
    """What one run of a stage took."""

    stage: str
    images: int
    seconds: float
    cpu_seconds: float
    """User and system, of the stage and its workers."""
    rss_mib: float
    """Largest resident memory of the stage and its workers together, mapped files included."""
    private_mib: float
    """The same without mapped files, which the system can drop."""


def read_costs(path: Path) -> dict[tuple[str, int], Cost]:
    """The rows of growth.csv, by stage and number of images; none where it does not exist."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    costs = [
        Cost(row.pop("stage"), int(row.pop("images")), *map(float, row.values())) for row in rows
    ]
    return {(cost.stage, cost.images): cost for cost in costs}


def _append(path: Path, cost: Cost) -> None:
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow([field.name for field in fields(Cost)])
        values = asdict(cost).values()
        writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in values])


def draw(number: int) -> bytes:
    """A smooth JPEG whose colour tells its class, and that is unlike all others."""
    random = np.random.default_rng(number)
    coarse = random.integers(0, 200, (6, 6, 3), dtype=np.uint8)
    kind = number % CLASSES
    coarse[..., kind % 3] //= 1 + kind // 3
    smooth = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def _draw_range(start: int, stop: int) -> list[bytes]:
    return [draw(number) for number in range(start, stop)]


def draw_all(count: int) -> Iterator[RawImage]:
    """The first `count` images, drawn on all cores."""
    starts = range(0, count, BATCH)
    tasks = (delayed(_draw_range)(start, min(start + BATCH, count)) for start in starts)
    jobs = -1 if count > BATCH else 1
    drawn = Parallel(n_jobs=jobs, return_as="generator", pre_dispatch="2*n_jobs")(tasks)
    for start, batch in zip(starts, drawn, strict=True):
        for number, data in enumerate(batch, start):
            label = f"class_{number % CLASSES}"
            yield RawImage(f"{label}/{number:08d}.jpg", label, data)


def write_zip(path: Path, count: int) -> None:
    """The source of acquire, with a folder per class."""
    staged = path.with_suffix(".part")
    with zipfile.ZipFile(staged, "w") as archive:
        for image in draw_all(count):
            archive.writestr(image.name, image.data)
    staged.rename(path)


def _to_clean(raw: pa.RecordBatch) -> pa.RecordBatch:
    count, ids = len(raw), raw.column("id").to_pylist()
    filled = {name: raw.column(name) for name in [*shards.FACTS, "bytes"]} | {
        "width": pa.array([SIDE] * count, pa.int32()),
        "height": pa.array([SIDE] * count, pa.int32()),
        "phash": pa.array([int(key[:16], 16) for key in ids], pa.uint64()),
        shards.STORED: raw.column("id"),
        "near_group": pa.nulls(count, pa.string()),
    }
    return pa.RecordBatch.from_pydict(filled, schema=shards.CLEAN)


class Project:
    """The data of one size, in `FOLDER/SIZE`."""

    def __init__(self, folder: Path, count: int, overrides: Mapping[str, object] = PARAMS) -> None:
        self.folder = folder / str(count)
        self.count = count
        self.source = folder / f"{count}.zip"
        dataset = self.folder / "datasets" / "growth"
        dataset.mkdir(parents=True, exist_ok=True)
        (dataset / "dataset.toml").write_text('kind = "folder"\ndescription = "Drawn images."\n')
        shipped = load_params(ROOT / "params.yaml")
        params = with_overrides(shipped, {**overrides, "dataset.source": str(self.source)})
        YAML(typ="safe", pure=True).dump(params.model_dump(), self.folder / "params.yaml")
        self._stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]

    def measure(self, stage: str, limit: float, environment: Mapping[str, str] = NONE) -> Cost:
        """Run a stage; the stages before it run first if their outputs are missing.

        Args:
            environment: Of the stage, besides this process's.

        Raises:
            subprocess.CalledProcessError: it failed.
            TimeoutError: it took more than `limit` seconds.
        """
        self._prepare(stage)
        for path in self.outputs(stage):
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder / ".cache", ignore_errors=True)
        start = time.perf_counter()
        process = self._start(stage, environment)
        usage = process_tree.watch(process, limit)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, stage)
        (self.folder / f"{stage}.done").touch()
        memory = (usage.rss_mib, usage.private_mib)
        return Cost(stage, self.count, seconds, usage.cpu_seconds, *memory)

    def _prepare(self, stage: str) -> None:
        if stage == "acquire":
            if not self.source.exists():
                write_zip(self.source, self.count)
            return
        if not all(path.exists() for path in self.outputs("acquire")):
            rows = (image.row() for image in draw_all(self.count))
            shards.write(self.folder / "data/raw", shards.RAW, rows)
            (self.folder / "data/skipped.csv").touch()
        earlier = STAGES[1 : STAGES.index(stage)]
        if "filter" in earlier and not (self.folder / "filter.done").exists():
            self._write_clean()
        for name in earlier[1:]:
            if name == "describe":  # no stage reads its page
                continue
            if not (self.folder / f"{name}.done").exists():
                self.measure(name, float("inf"))

    def _write_clean(self) -> None:
        """What filter would give, with hashes of other images: none is like another."""
        data = self.folder / "data"
        raw = shards.batches(data / "raw", shards.RAW.names, BATCH)
        shards.write_batches(data / "clean", shards.CLEAN, map(_to_clean, raw))
        table = shards.columns(data / "raw", ["id", "name", "label"])
        rows = zip(*map(columns.iterate, table.columns), strict=True)
        verdicts = (VerdictRow(key, name, label, "", KEEP, "", "", "") for key, name, label in rows)
        write_verdicts(data / "verdicts.csv", verdicts)
        (self.folder / "filter.done").touch()

    def outputs(self, stage: str) -> list[Path]:
        """The files and folders that a stage writes."""
        entry = self._stages[stage]
        names = [*entry.get("outs", []), *entry.get("metrics", [])]
        return [
            self.folder / (name if isinstance(name, str) else next(iter(name))) for name in names
        ]

    def _start(self, stage: str, variables: Mapping[str, str]) -> psutil.Popen:
        command = self._stages[stage]["cmd"]
        command = command.replace("${dataset.name}", "growth")
        command = command.replace("${dataset.source}", str(self.source))
        _, *arguments = shlex.split(command)  # python
        environment = {
            "DVC_ROOT": str(self.folder),
            "PYTHONPATH": str(ROOT),
            # The smallest size creates it, which takes seconds.
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder.parent}/mlflow.db",
        }
        return psutil.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **environment, **variables},
        )


def measure_all(folder: Path, stages: list[str], sizes: list[int], limit: float) -> None:
    """Add what is missing to growth.csv."""
    table = folder / "growth.csv"
    for size, stage in [(size, stage) for size in sorted(sizes) for stage in stages]:
        costs = read_costs(table)
        if (stage, size) in costs:
            continue
        try:
            cost = Project(folder, size).measure(stage, limit)
        except TimeoutError as error:
            print(f"{stage}, {size} images: {error}", flush=True)
            continue
        _append(table, cost)
        print(
            f"{stage}, {size} images: {cost.seconds:.1f} s, {cost.cpu_seconds:.1f} s of CPU, "
            f"{cost.rss_mib:.0f} MiB, {cost.private_mib:.0f} MiB without mapped files",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--limit", type=float, default=600, help="seconds")
    options = parser.parse_args()
    folder = options.folder.absolute()
    measure_all(folder, list(options.stages), list(options.sizes), options.limit)


if __name__ == "__main__":
    main()
