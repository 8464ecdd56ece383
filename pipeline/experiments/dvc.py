"""Run DVC's commands, and call its Python API."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from pipeline.core.errors import PipelineError
from pipeline.core.terminal import one_line, print_line

RUNNING_STAGE = re.compile(r"Running stage '([^']+)'")


def run(
    *arguments: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    out: TextIO | None = None,
) -> tuple[int, list[str]]:
    """Run a command of DVC and print its output as it comes.

    Args:
        folder: The working directory; None: the current one.
        environment: None: that of this process.
        out: Where to print the lines; None: standard output. Errors and progress bars go to
            standard error.

    Returns:
        The exit code, and the printed lines.
    """

    def show(line: str) -> None:
        print_line(*line.rstrip("\n").split("\t"), file=out)

    return _run(arguments, folder, environment, show, errors=None)


def run_quietly(
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str],
    on_line: Callable[[str], None] = lambda _: None,
) -> tuple[int, list[str]]:
    """Run a command of DVC and print nothing, not even its errors.

    Args:
        folder: The working directory.
        on_line: Called with each line of output or error as it comes.

    Returns:
        The exit code, and the lines of output and errors.
    """
    return _run(arguments, folder, environment, on_line, errors=subprocess.STDOUT)


def _run(
    arguments: Sequence[str],
    folder: Path | None,
    environment: Mapping[str, str] | None,
    on_line: Callable[[str], None],
    errors: int | None,
) -> tuple[int, list[str]]:
    lines = []
    with subprocess.Popen(  # noqa: S603
        command(*arguments),
        cwd=folder,
        env=with_python(environment or os.environ),
        text=True,
        stdout=subprocess.PIPE,
        stderr=errors,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                on_line(line)
                lines.append(line)
        except KeyboardInterrupt:
            process.wait()  # Ctrl-C stops it too; Popen waits for a quarter of a second alone
            raise
    return process.returncode, lines


class DvcIsBusy(PipelineError):
    """DVC is at work in the project, or a stage is whose DVC has been killed."""

    def __init__(self, process: str = "") -> None:
        super().__init__(
            f"DVC or one of its stages{process} is at work in this project: run this again when it "
            "has ended"
        )


@contextmanager
def errors_as_sentences(problem: str, advice: str) -> Iterator[None]:
    """Turn any error of DVC's Python API into one sentence. Wrap nothing but calls of that API.

    It catches Exception, since each kind of remote raises errors of its own, which have no other
    common base class.

    Raises:
        PipelineError: the block fails.
    """
    try:
        yield
    except Exception as error:
        raise PipelineError(f"{problem} ({one_line(error)}): {advice}") from error


def open_repo() -> Any:
    """DVC's `Repo` of the working directory, a context manager.

    Raises:
        PipelineError: DVC does not run here.
    """
    from dvc.repo import Repo

    with errors_as_sentences("DVC does not run here", "see `dvc doctor`"):
        return Repo(os.curdir)


@contextmanager
def exclusive() -> Iterator[Any]:
    """Hold DVC's locks, so that no DVC process changes the project; yield its `Repo`.

    Raises:
        DvcIsBusy: a DVC process is at work.
        PipelineError: DVC does not run here.
    """
    from dvc.lock import LockError, make_lock

    with open_repo() as repo, ExitStack() as stack:
        is_hardlink = repo.config["core"].get("hardlink_lock", False)
        folders = _temporary_folders(repo)
        locks = [make_lock(str(folder / "lock"), folder, False, is_hardlink) for folder in folders]
        try:
            for lock in (repo.lock, *locks):
                stack.enter_context(lock)
        except LockError as error:
            # With core.hardlink_lock, unlike the system's locks, a lock outlives its process.
            killed = " (or one that was killed: `rm .dvc/tmp/lock`)" if is_hardlink else ""
            raise DvcIsBusy(killed) from error
        # While a stage runs, DVC gives back the lock, but stays in the list of readers and writers.
        if running := running_processes(repo):
            raise DvcIsBusy(f" (process {running[0]})")
        yield repo


def running_processes(repo: Any) -> list[int]:
    """Ids of the processes whose stages are running, also in temporary folders."""
    folders = [Path(repo.tmp_dir), Path(repo.tmp_dir, "exps"), *_temporary_folders(repo)]
    users = {pid for folder in folders for pid in _users(folder / "rwlock")}
    return sorted(users) or sorted(_stages(repo.root_dir))


def _temporary_folders(repo: Any) -> list[Path]:
    """`.dvc/tmp` of the experiments that have a folder of their own, from --temp or the queue."""
    folder = Path(repo.tmp_dir, "exps")
    return sorted({*folder.glob("*/.dvc/tmp"), *folder.glob("*/*/.dvc/tmp")})


def _users(rwlock: Path) -> set[int]:
    """Living processes in DVC's list of those that read and write outs. Source: dvc/rwlock.py."""
    try:
        lists, written = json.loads(rwlock.read_bytes()), rwlock.stat().st_mtime
    except (OSError, ValueError, RecursionError):  # missing or damaged
        return set()
    return {pid for pid in _pids(lists) if _start_time(pid) <= written}


def _pids(lists: object) -> set[int]:
    """The processes in the content of such a list, as far as it is sound."""
    writers, readers = _by_path(lists, "write"), _by_path(lists, "read")
    lists_of_readers = [users for users in readers if isinstance(users, list)]
    users = (*writers, *chain.from_iterable(lists_of_readers))
    pids = [user.get("pid") for user in users if isinstance(user, dict)]
    return {pid for pid in pids if isinstance(pid, int) and pid >= 0}


def _by_path(lists: object, name: str) -> list[object]:
    """What a list has for each path."""
    paths = lists.get(name) if isinstance(lists, dict) else None
    return list(paths.values()) if isinstance(paths, dict) else []


def _stages(root: str) -> set[int]:
    """Processes of stages of a project: they outlive a DVC that is killed."""
    import psutil

    stages: set[int] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended, or is another user's
            environment = process.environ()
            if environment.get("DVC_STAGE") and environment.get("DVC_ROOT") == root:
                stages.add(process.pid)
    return stages - {os.getpid()}


def _start_time(pid: int) -> float:
    """Seconds since 1970; infinity if there is no such process."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return math.inf


def command(*arguments: str) -> list[str]:
    """The command line that runs the DVC of this Python environment, whatever is on the PATH."""
    return [sys.executable, "-m", "dvc", *arguments]


def with_python(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` in which `python` is this Python, even if its venv is not activated."""
    path = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    return {**environment, "PATH": path}
