"""Measure whole commands against floors that no pipeline can pass.

    python -m bench.start [--photos PHOTOS.zip] [--before COMMIT] [--repeats N]  # prints a table

Commands run in a clone of this repository with its drawn images; with `--photos`, an experiment and
a run from the archive to the report use those of ants and bees instead, in a second clone. The
floor of a DVC command is the same command in a project with as many stages, each of which copies a
file of one byte; that of `pipeline predict` is `python -c "import torch"`. With `--before`, an
earlier commit runs the same commands, with the packages of today. All run in turn, so that the load
of the machine is on all sides. Where everything is computed, nothing but the clone and its bytecode
is there before. A first run, in which files are read and compiled, is not counted. Seconds, and CPU
seconds of all processes, are medians with ranges.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from statistics import median
from typing import Self

import dvc
import torch
from ruamel.yaml import YAML

from bench.project import ROOT

TORCH = "import torch"
PHOTOS = "hymenoptera"  # the data set of `--photos`
# Of this process: stages would use other folders, servers, and bytecode compiled anew.
OTHER_VARIABLES = ("DVC_", "MLFLOW_", "PYTHON")
TITLE = "| command | beside | seconds | its | ratio | CPU seconds | its | ratio |"


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


def clone(folder: Path, photos: Path | None = None, commit: str | None = None) -> Path:
    """A clone of this repository, with photographs as its images.

    It is at a commit, or has the changes that are not committed yet.
    """
    git("clone", "--quiet", str(ROOT), str(folder), folder=folder.parent)
    if commit is not None:
        git("checkout", "--quiet", "--detach", commit, folder=folder)
    else:
        shutil.copytree(ROOT / "pipeline", folder / "pipeline", dirs_exist_ok=True)
        for name in ("dvc.yaml", "params.yaml"):
            shutil.copy(ROOT / name, folder / name)
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


def measure(name: str, command: Command, others: Mapping[str, Command], repeats: int) -> None:
    """Print a row of the table for each other command."""
    commands = (command, *others.values())
    for warm_up in commands:
        warm_up()
    rounds = [[run() for run in commands] for _ in range(repeats)]
    costs, *columns = zip(*rounds, strict=True)
    for other, other_costs in zip(others, columns, strict=True):
        cells = [name, other, *describe_costs(costs, other_costs)]
        print(f"| {' | '.join(cells)} |", flush=True)


def describe_costs(costs: Sequence[Cost], others: Sequence[Cost]) -> Iterator[str]:
    """Seconds of both and their ratio, then CPU seconds."""
    for unit in ("seconds", "cpu_seconds"):
        pairs = [(getattr(a, unit), getattr(b, unit)) for a, b in zip(costs, others, strict=True)]
        for values in zip(*pairs, strict=True):
            yield describe(values)
        yield describe([cost / other for cost, other in pairs])


def describe(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


@dataclass(frozen=True)
class Repository:
    """Clones of one commit, in which everything has run once."""

    sample: Commands
    images: Commands
    """The photographs if there are any, else the sample."""

    @classmethod
    def prepare(cls, folder: Path, photos: Path | None, commit: str | None) -> Self:
        folder.mkdir()
        sample = prepare(clone(folder / "sample", commit=commit))
        if photos is None:
            return cls(sample, sample)
        return cls(sample, prepare(clone(folder / "photos", photos, commit)))


def measure_all(folder: Path, photos: Path | None, before: str | None, repeats: int) -> None:
    """Print the table."""
    now = Repository.prepare(folder / "now", photos, None)
    earlier = {before: Repository.prepare(folder / "before", photos, before)} if before else {}
    write_photo(now.sample.folder)
    for repository in earlier.values():
        shutil.copy(now.sample.folder / "photo.jpg", repository.sample.folder)
    stages = YAML(typ="safe", pure=True).load(now.sample.folder / "dvc.yaml")["stages"]
    empty = prepare(write_empty_project(folder / "empty", len(stages)))

    def print_rows(name: str, command: Callable[[Repository], Command], floor: Command) -> None:
        others = {commit: command(repository) for commit, repository in earlier.items()}
        measure(name, command(now), {"floor": floor} | others, repeats)

    print(f"{TITLE}\n{'|---' * TITLE.count(' | ')}|---|", flush=True)
    print_rows("`dvc repro` that does nothing", lambda clones: clones.sample.no_op, empty.no_op)
    print_rows(
        "`pipeline predict photo.jpg`",
        lambda clones: clones.sample.predict,
        now.sample.import_torch,
    )
    print_rows(
        "`dvc exp run -S train.lr=...`", lambda clones: clones.images.experiment, empty.experiment
    )
    print_rows(
        "`dvc repro`, all computed", lambda clones: clones.sample.everything, empty.everything
    )
    if photos is not None:
        print_rows(
            "from the zip to the report", lambda clones: clones.images.everything, empty.everything
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="an archive of ants and bees")
    parser.add_argument("--before", metavar="COMMIT", help="an earlier commit to run beside this")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    photos = options.photos and options.photos.resolve(strict=True)
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}, "
        f"dvc {dvc.__version__}; n={options.repeats}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        measure_all(Path(folder), photos, options.before, options.repeats)


if __name__ == "__main__":
    main()
