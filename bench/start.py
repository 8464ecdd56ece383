"""Measure whole commands against floors that no pipeline can pass.

    python -m bench.start [--photos PHOTOS.zip] [--repeats N]  # prints a table in Markdown

Commands run in a clone of this repository with its drawn images; with `--photos`, an experiment and
a run from the archive to the report use those of ants and bees instead, in a second clone. The
floor of a DVC command is the same command in a project with as many stages, each of which copies a
file of one byte; that of `pipeline predict` is `python -c "import torch"`. A command and its floor
run in turn, so that the load of the machine is on both sides. Where everything is computed, nothing
but the clone and its bytecode is there before. A first run, in which files are read and compiled,
is not counted. Seconds, and CPU seconds of all processes, are medians with ranges.
"""

import argparse
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from statistics import median

import dvc
import torch
from ruamel.yaml import YAML

from bench.project import ROOT

TORCH = "import torch"
PHOTOS = "hymenoptera"  # the data set of `--photos`
# Of this process: stages would use other folders, servers, and bytecode compiled anew.
OTHER_VARIABLES = ("DVC_", "MLFLOW_", "PYTHON")
TITLE = "| command | seconds | floor | ratio | CPU seconds | floor | ratio |"


@dataclass(frozen=True)
class Cost:
    """Of one command."""

    seconds: float
    cpu_seconds: float
    """Of all its processes."""


Command = Callable[[], Cost]


class Commands:
    """The commands in one project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = count(1)

    def run(self, *words: str) -> Cost:
        """A Python module with arguments."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(OTHER_VARIABLES)
        }
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # for DVC's stages
        environment |= {
            "DVC_NO_ANALYTICS": "true",
            "PATH": path,
            "PYTHONPATH": str(self.folder),
        }
        start, cpu_start = time.perf_counter(), _cpu_seconds()
        subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return Cost(time.perf_counter() - start, _cpu_seconds() - cpu_start)

    def no_op(self) -> Cost:
        return self.run("-m", "dvc", "repro")

    def everything(self) -> Cost:
        """From the source to the report, as in a fresh clone."""
        git("clean", "-xdfq", "--exclude=__pycache__", folder=self.folder)
        (self.folder / "dvc.lock").unlink(missing_ok=True)
        return self.run("-m", "dvc", "repro")

    def experiment(self) -> Cost:
        change = f"train.lr=0.001{next(self._numbers)}"  # never the same twice
        return self.run("-m", "dvc", "exp", "run", "-S", change)

    def predict(self) -> Cost:
        return self.run("-m", "pipeline", "predict", "photo.jpg")

    def import_torch(self) -> Cost:
        return self.run("-c", TORCH)


def _cpu_seconds() -> float:
    """Of all processes that were started and have ended until now."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def clone(folder: Path, photos: Path | None = None) -> Path:
    """A clone of this repository with its changes, and with photographs as its images."""
    git("clone", "--quiet", str(ROOT), str(folder), folder=folder.parent)
    for name in ("pipeline", "dvc.yaml", "params.yaml"):
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)
    if photos is not None:
        yaml = YAML(typ="safe", pure=True)
        params = yaml.load(folder / "params.yaml")
        params["dataset"] = {"name": PHOTOS, "source": str(photos)}
        yaml.dump(params, folder / "params.yaml")
    return folder


def write_empty_project(folder: Path, stages: int) -> Path:
    """A project with stages that copy one file each, in a row."""
    folder.mkdir()
    files = [f"{number}.txt" for number in range(stages + 1)]
    entries = {
        f"stage{number}": {
            "cmd": f"cp {before} {after}",
            "deps": [before],
            "params": ["train.lr"],
            "outs": [after],
        }
        for number, (before, after) in enumerate(pairwise(files))
    }
    yaml = YAML(typ="safe", pure=True)
    yaml.dump({"stages": entries}, folder / "dvc.yaml")
    yaml.dump({"train": {"lr": 0.1}}, folder / "params.yaml")
    (folder / files[0]).write_text("x")
    git("init", "--quiet", folder=folder)
    Commands(folder).run("-m", "dvc", "init", "--quiet")
    commit(folder)
    return folder


def prepare(folder: Path) -> Commands:
    """Run everything once, and commit, as an experiment wants it."""
    commands = Commands(folder)
    commands.run("-m", "dvc", "repro")
    commit(folder)
    return commands


def commit(folder: Path) -> None:
    git("add", "--all", folder=folder)
    git("commit", "--quiet", "--allow-empty", "--message", "all", folder=folder)


def git(*words: str, folder: Path) -> None:
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True)


def write_photo(folder: Path) -> None:
    """The first photograph that the model was tested with."""
    from pipeline.core import shards

    batch = next(map(shards.read, shards.paths(folder / "data/clean")))
    (folder / "photo.jpg").write_bytes(batch.column("bytes")[0].as_py())


def measure(name: str, command: Command, floor: Command, repeats: int) -> None:
    """Print a row of the table."""
    command()
    floor()
    pairs = [(command(), floor()) for _ in range(repeats)]
    cells = [name]
    for values in (
        [(cost.seconds, least.seconds) for cost, least in pairs],
        [(cost.cpu_seconds, least.cpu_seconds) for cost, least in pairs],
    ):
        ours, floors = zip(*values, strict=True)
        ratios = [cost / least for cost, least in values]
        cells += [describe(ours), describe(floors), describe(ratios)]
    print(f"| {' | '.join(cells)} |", flush=True)


def describe(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def measure_all(folder: Path, photos: Path | None, repeats: int) -> None:
    """Print the table."""
    sample = prepare(clone(folder / "sample"))
    write_photo(sample.folder)
    stages = YAML(typ="safe", pure=True).load(sample.folder / "dvc.yaml")["stages"]
    empty = prepare(write_empty_project(folder / "empty", len(stages)))
    print(f"{TITLE}\n{'|---' * TITLE.count(' | ')}|---|", flush=True)
    measure("`dvc repro` that does nothing", sample.no_op, empty.no_op, repeats)
    measure("`pipeline predict photo.jpg`", sample.predict, sample.import_torch, repeats)
    images = sample if photos is None else prepare(clone(folder / "photos", photos))
    experiment = "`dvc exp run -S train.lr=...`"
    measure(experiment, images.experiment, empty.experiment, repeats)
    measure("`dvc repro`, all computed", sample.everything, empty.everything, repeats)
    if photos is not None:
        measure("from the zip to the report", images.everything, empty.everything, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="an archive of ants and bees")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    photos = options.photos and options.photos.resolve(strict=True)
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}, "
        f"dvc {dvc.__version__}; n={options.repeats}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        measure_all(Path(folder), photos, options.repeats)


if __name__ == "__main__":
    main()
