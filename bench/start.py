"""Seconds of whole commands, beside those of DVC with empty stages and of importing torch.

    python -m bench.start                       # in a clone of this repository, the sample data
    python -m bench.start --project FOLDER      # in a project with a trained model

The floor of `dvc repro` and `dvc exp run` is a project with as many stages, each of which copies a
file of one byte; that of `pipeline predict` is `python -c "import torch"`. All are run in turn, so
that the load of the machine is on both sides. `dvc repro` computes everything: memos are removed
before it. A first run, in which files are read and compiled, is not counted.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path

import dvc
import torch
from ruamel.yaml import YAML

from bench.project import ROOT
from bench.train import show, show_ratio

TORCH = "import torch"
NO_OP, ALL, EXPERIMENT, PREDICT = "dvc repro, no-op", "dvc repro", "dvc exp run", "predict"


class Commands:
    """The commands in one project."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count(1)

    def run(self, *words: str) -> float:
        """Seconds of a Python module with arguments."""
        names = (name for name in os.environ if not name.startswith(("DVC_", "MLFLOW_")))
        environment = {name: os.environ[name] for name in names}
        environment |= {"DVC_NO_ANALYTICS": "true", "PYTHONPATH": str(self._folder)}
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, *words],
            cwd=self._folder,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - start

    def no_op(self) -> float:
        return self.run("-m", "dvc", "repro")

    def everything(self) -> float:
        shutil.rmtree(self._folder / ".cache", ignore_errors=True)
        return self.run("-m", "dvc", "repro", "--force")

    def experiment(self) -> float:
        change = f"train.lr=0.001{next(self._numbers)}"  # never the same twice
        return self.run("-m", "dvc", "exp", "run", "-S", change)

    def predict(self) -> float:
        image = self._folder / "photo.jpg"
        return self.run("-m", "pipeline", "predict", str(image))

    def import_torch(self) -> float:
        return self.run("-c", TORCH)


def clone(folder: Path) -> Path:
    """A clone of this repository with its changes, committed."""
    git("clone", "--quiet", str(ROOT), str(folder), folder=folder.parent)
    for name in ("pipeline", "dvc.yaml", "params.yaml"):
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)
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
    return folder


def prepare(folder: Path) -> Commands:
    """Run everything once, and commit, as an experiment wants it."""
    commands = Commands(folder)
    commands.run("-m", "dvc", "repro")
    git("add", "--all", folder=folder)
    git("commit", "--quiet", "--allow-empty", "--message", "all", folder=folder)
    return commands


def git(*words: str, folder: Path) -> None:
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True)


def write_photo(folder: Path) -> None:
    """The first photograph that the model was tested with."""
    from pipeline.core import shards

    batch = next(map(shards.read, shards.paths(folder / "data/clean")))
    (folder / "photo.jpg").write_bytes(batch.column("bytes")[0].as_py())


def measure(project: Path, floor: Path, repeats: int, with_model: bool) -> None:
    """Print seconds and ratios."""
    ours, empty = prepare(project), prepare(floor)
    pairs: dict[str, tuple[Callable[[], float], Callable[[], float]]] = {
        NO_OP: (ours.no_op, empty.no_op),
        EXPERIMENT: (ours.experiment, empty.experiment),
        ALL: (ours.everything, empty.everything),
    }
    if with_model:
        write_photo(project)
        pairs[PREDICT] = ours.predict, ours.import_torch
    for name, (command, lowest) in pairs.items():
        command()
        lowest()
        seconds, floors = [], []
        for _ in range(repeats):
            seconds.append(command())
            floors.append(lowest())
        show(name, seconds, "s")
        show("  floor", floors, "s")
        show_ratio(f"  {name} / floor", seconds, floors)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--project", type=Path, help="a DVC project with the param train.lr")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}, "
        f"dvc {dvc.__version__}"
    )
    with tempfile.TemporaryDirectory() as folder:
        project = options.project or clone(Path(folder, "project"))
        stages = YAML(typ="safe", pure=True).load(project / "dvc.yaml")["stages"]
        empty = write_empty_project(Path(folder, "empty"), len(stages))
        measure(project, empty, options.repeats, "evaluate" in stages)


if __name__ == "__main__":
    main()
