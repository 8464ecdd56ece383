"""A repository with the pipeline in it, for tests that run real DVC."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Self

import mlflow
import psutil
from mlflow.entities import Run

from tests import ROOT
from tests.builders import warm_python
from tests.builders.forks import run_dvc
from tests.builders.stores import copy_store

STAGES = ("acquire", "filter", "split", "describe", "features", "train", "evaluate")


class Project:
    """A git repository with the pipeline in it, like a user's clone."""

    def __init__(self, folder: Path, small: bool = True) -> None:
        self.folder = folder
        for name in (
            "pipeline",
            "datasets",
            "params.yaml",
            "dvc.yaml",
            ".dvc/config",
            ".dvc/plots",
            ".dvcignore",
            ".gitignore",
        ):
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)  # compiled files too: git and DVC ignore them
            else:
                shutil.copy(source, target)
        if small:
            self._shrink()
        # Ignored before the first run, as in the project.
        (folder / ".gitignore").write_text((folder / ".gitignore").read_text() + "/models\n")
        for command in ("init -q -b main", "add -A", "commit -q -m start"):
            self.git(*command.split())

    @classmethod
    def cloned(cls, other: "Project", folder: Path) -> Self:
        """A git clone, as on another machine."""
        other.git("clone", "-q", ".", str(folder))
        return cls.at(folder)

    @classmethod
    def at(cls, folder: Path) -> Self:
        """A project that exists."""
        project = cls.__new__(cls)
        project.folder = folder
        return project

    def copied(self, folder: Path) -> "Project":
        """A copy in another folder, with the files that git ignores: data, caches, runs."""
        shutil.copytree(self.folder, folder, symlinks=True, dirs_exist_ok=True)
        if (self.folder / "mlflow.db").exists():
            copy_store(self.folder, folder)
        return Project.at(folder)

    def _shrink(self) -> None:
        """Fewer images, of fewer pixels, for fewer epochs."""
        for name, old, new in (
            ("params.yaml", "size: 224", "size: 64"),
            ("params.yaml", "views: 4", "views: 1"),
            ("params.yaml", "epochs: 30", "epochs: 4"),
            ("datasets/sample/dataset.toml", "images_per_class = 150", "images_per_class = 60"),
        ):
            text = (self.folder / name).read_text()
            assert old in text
            (self.folder / name).write_text(text.replace(old, new))

    @property
    def environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DVC_", "MLFLOW_", "GIT_"))
        }
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return inherited | {"PATH": path, "DVC_NO_ANALYTICS": "true"}

    def git(self, *arguments: str) -> str:
        names = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        return self.run("git", *names, *arguments).stdout

    def dvc(self, *arguments: str, **changed: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of DVC, whose stages start with the packages already imported."""
        environment = self.warm_environment | changed
        return run_dvc(*arguments, folder=self.folder, environment=environment)

    @property
    def warm_environment(self) -> dict[str, str]:
        """An environment in which DVC's stages start with their packages imported."""
        return self.environment | self._warm

    @property
    def _warm(self) -> dict[str, str]:
        return {"PATH": f"{warm_python.executable().parent}{os.pathsep}{self.environment['PATH']}"}

    def python(self, *arguments: str, **changed: str) -> "subprocess.CompletedProcess[str]":
        """Run Python with the packages already imported."""
        return self.run(str(warm_python.executable()), *arguments, **self._warm, **changed)

    def run(self, *command: str, **changed: str) -> "subprocess.CompletedProcess[str]":
        # To a file: a worker of DVC's queue may outlive its command, and would keep a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.run(
                command,
                cwd=self.folder,
                env=self.environment | changed,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            output.seek(0)
            return subprocess.CompletedProcess(command, process.returncode, output.read())

    def kill_queue_workers(self) -> None:
        """Kill the workers of DVC's queue, which sometimes miss their shutdown."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if "queue-worker" in process.cmdline() and process.cwd() == str(self.folder):
                    process.kill()

    def pipeline(self, *words: str, **changed: str) -> str:
        """The output of a command, which must succeed."""
        result = self.python("-m", "pipeline", *words, **changed)
        assert result.returncode == 0, result.stdout
        return result.stdout

    def experiment(self, name: str, *overrides: str, **changed: str) -> str:
        """Run an experiment in the workspace, and leave it there."""
        options = [word for override in overrides for word in ("-S", override)]
        result = self.dvc("exp", "run", "-n", name, *options, **changed)
        assert result.returncode == 0, result.stdout
        return result.stdout

    def restore(self) -> None:
        """Undo what an experiment left in the workspace."""
        # Written here too: git does not notice a change of the same length within a second.
        (self.folder / "params.yaml").write_text(self.git("show", "HEAD:params.yaml"))
        self.git("reset", "-q", "--hard")
        self.dvc("checkout")

    def metrics(self) -> dict[str, float]:
        metrics: dict[str, float] = json.loads((self.folder / "reports/metrics.json").read_text())
        return metrics

    def runs(self, database: str = "mlflow.db") -> list[Run]:
        mlflow.set_tracking_uri(f"sqlite:///{self.folder / database}")
        return list(mlflow.search_runs(search_all_experiments=True, output_format="list"))


def ran(output: str) -> list[str]:
    """The stages that DVC ran, not those restored from its cache.

    Without `check`, which runs whenever any param has changed.
    """
    lines = output.splitlines()
    stages = [line.split("'")[1] for line in lines if line.startswith("Running stage")]
    return [stage for stage in stages if stage != "check"]
