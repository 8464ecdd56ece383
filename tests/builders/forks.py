"""Programs in forked children of this process: its imports are theirs, so a start takes no time."""

import gc
import importlib
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TextIO

MAX_SECONDS = 120
MAX_COMMAND_SECONDS = 500  # of a whole pipeline on a busy machine; pytest's own limit is 600
# The warnings that Python hides by itself.
HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
# What DVC imports when it needs it: more than half of the time of most commands.
IMPORTED_LATE = (
    *("dvc.cli.parser", "dvc.cachemgr", "dvc.data_cloud", "dvc.repo.graph", "dvc.repo.index"),
    *("dvc.repo.artifacts", "dvc.repo.datasets", "dvc.repo.stage", "dvc.repo.collect"),
    *("dvc.repo.metrics.diff", "dvc.repo.params.diff", "dvc.repo.plots", "dvc.repo.brancher"),
    *("dvc.repo.experiments.run", "dvc.repo.experiments.show", "dvc.repo.experiments.brancher"),
    *("dvc.repo.experiments.queue.tempdir", "dvc.repo.experiments.queue.workspace"),
    *("dvc.repo.experiments.queue.tasks", "dvc.repo.experiments.executor.local"),
    *("dvc.render.convert", "dvc.render.match", "dvc.ui.table", "dvc.utils.hydra"),
    *("dvc.utils.strictyaml", "dvc.utils.studio", "dvc_data.index.checkout", "dvc_data.index.push"),
    *("dvc_data.hashfile.db.local", "dvc_data.hashfile.db.index", "dvc_data.hashfile.status"),
    *("dvc.repo.experiments.apply", "dvc.repo.experiments.queue.celery", "dvc.dagascii"),
    *("dulwich.porcelain", "dulwich.worktree", "dulwich.stash", "fsspec.implementations.memory"),
    *("fsspec.implementations.http", "aiohttp_retry", "git", "grandalf", "hydra", "networkx"),
    *("hydra._internal.config_loader_impl", "hydra._internal.callbacks", "platformdirs", "pygit2"),
    *("pyparsing", "rich.table", "scmrepo.fs", "scmrepo.git.backend.pygit2.callbacks"),
    *("scmrepo.git.backend.pygit2.filter", "scmrepo.git.lfs"),
)


class Fork:
    """A `main` that runs in a process of its own, whose output goes to a file."""

    def __init__(
        self, main: Callable[[], object], words: list[str], output: Path, **environment: str
    ) -> None:
        self.output = output
        self._start = time.monotonic()
        context = multiprocessing.get_context("fork")
        self.process: BaseProcess = context.Process(
            target=_run, args=(main, words, output, environment)
        )
        self.process.start()

    def check(self) -> None:
        """Fail with its output if it has ended, or runs for longer than any test needs."""
        assert self.process.is_alive(), self.output.read_text()
        if time.monotonic() - self._start > MAX_SECONDS:
            self.kill()
            raise AssertionError(f"it hangs: {self.output.read_text()}")

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def wait(self, seconds: float = MAX_SECONDS) -> int | None:
        """Its exit code: negative of a signal, None if it does not end."""
        self.process.join(timeout=seconds)
        return self.process.exitcode

    def finish(self) -> str:
        """Wait for its end without an error; return its output."""
        assert self.wait() == 0, self.output.read_text()
        return self.output.read_text()


def run_in_fork(
    main: Callable[[], object], words: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run `main` with these arguments in `folder`; return its exit code and output."""
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary, "output.txt")
        fork = Fork(partial(_enter, main, folder, environment), list(words), output)
        try:
            code = fork.wait(MAX_COMMAND_SECONDS)
        finally:
            fork.kill()  # or Python would wait for it when the tests end
        assert code is not None, f"it hangs: {output.read_text()}"
        return subprocess.CompletedProcess(list(words), code, output.read_text())


def _enter(main: Callable[[], object], folder: Path, environment: Mapping[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    main()


def run_dvc(
    *words: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    errors: int | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run DVC's command line in a fork: most of its time is that of its imports.

    Its stages are processes as always. Errors go to a file descriptor, or into the output.
    """
    import dvc.cli

    _import_late_modules()

    def main() -> None:
        if errors is not None:
            os.dup2(errors, 2)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        # DVC's loggers have the streams of the time when it was imported.
        for name in ("dvc", "dvc_objects", "dvc_data"):
            for handler in logging.getLogger(name).handlers:
                if isinstance(handler, logging.StreamHandler):
                    is_error = handler.level >= logging.WARNING
                    handler.setStream(sys.stderr if is_error else sys.stdout)
        sys.exit(dvc.cli.main(list(words)))

    environment = os.environ if environment is None else environment
    return run_in_fork(main, ("dvc", *words), folder or Path.cwd(), dict(environment))


@cache
def _import_late_modules() -> None:
    """Import them once for all forks, which need not search them for garbage either."""
    with warnings.catch_warnings():  # pytest makes errors of them
        warnings.simplefilter("ignore")
        for name in IMPORTED_LATE:
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def dvc_in_fork(
    *words: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    out: TextIO | None = None,
) -> tuple[int, list[str]]:
    """As `pipeline.experiments.dvc.run`, which it replaces."""
    from pipeline.core.terminal import print_line
    from pipeline.experiments import dvc

    errors = os.dup(2)
    try:
        python_environment = dvc.with_python(os.environ if environment is None else environment)
        result = run_dvc(*words, folder=folder, environment=python_environment, errors=errors)
    finally:
        os.close(errors)
    lines = result.stdout.splitlines(keepends=True)
    for line in lines:
        print_line(*line.rstrip("\n").split("\t"), file=out)
    return result.returncode, lines


def _run(
    main: Callable[[], object], words: list[str], output: Path, environment: dict[str, str]
) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    warnings.resetwarnings()  # pytest makes errors of them
    for category in HIDDEN:
        warnings.simplefilter("ignore", category)
    os.environ.update(environment)
    sys.argv = words
    main()
