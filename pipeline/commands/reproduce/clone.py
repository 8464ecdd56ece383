"""A commit checked out in a temporary clone that uses the project's DVC cache and remotes."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.core import progress, project, terminal
from pipeline.core.errors import PipelineError
from pipeline.core.git import git
from pipeline.experiments import dvc
from pipeline.tracking import store


@contextmanager
def temporary_folder(keep: bool) -> Iterator[Path]:
    """A folder in .cache/reproduce, removed when the block ends.

    Folders of killed processes are removed first: they contain credentials of the remotes.

    Args:
        keep: Whether the folder stays.
    """
    parent = project.cache() / "reproduce"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # clones contain credentials of remotes
    folder = parent / secrets.token_hex(4)
    lock = FileLock(folder.with_suffix(".lock"), thread_local=False)
    with store.exclusive("reproduce"):
        for path in parent.glob("*.lock"):
            _remove_abandoned(path)
        lock.acquire()
    try:
        folder.mkdir()
        yield folder
    finally:
        with store.exclusive("reproduce"):  # otherwise another process takes it for abandoned
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)
            _remove(lock)


def _remove_abandoned(path: Path) -> None:
    """Remove the folder that belongs to a lock file, unless a living process holds the lock."""
    lock = FileLock(path, blocking=False)
    with suppress(Timeout):
        lock.acquire()
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        _remove(lock)


def _remove(lock: FileLock) -> None:
    lock.release()
    Path(lock.lock_file).unlink(missing_ok=True)  # on Windows the release has removed it


def check_out(folder: Path, revision: str) -> None:
    """Replace `folder` by a clone of the project with `revision` checked out.

    It shares the project's objects, so it also has commits of no branch, such as experiments.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if git("rev-parse", "--is-shallow-repository").strip() == "true":
        raise PipelineError("this is a shallow clone, without history: run `git fetch --unshallow`")
    git("clone", "--quiet", "--shared", "--no-checkout", str(project.root()), str(folder))
    git("checkout", "--quiet", "--detach", revision, folder=folder)
    _configure(folder)


def _configure(folder: Path) -> None:
    """Let a clone use the project's DVC cache and remotes."""
    from dvc.repo import Repo

    with (
        dvc.errors_as_sentences("DVC cannot open the project", "see `dvc doctor`"),
        Repo(str(project.root())) as own,
        Repo(str(folder)) as other,
    ):
        mine = own.config
        with other.config.edit("local") as local:
            local["cache"] = {"dir": own.cache.local_cache_dir}
            # Resolved by DVC: relative paths would be wrong in the clone.
            local["remote"] = {name: dict(remote) for name, remote in mine["remote"].items()}
            if mine["core"].get("remote"):
                local["core"] = {"remote": mine["core"]["remote"]}
    (folder / ".dvc/config.local").chmod(0o600)  # may contain credentials


def write_files(folder: Path, files: Mapping[str, str], patch: str) -> None:
    """Write files by name into a clone, then apply a patch.

    Raises:
        PipelineError: the patch does not apply.
    """
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8", "surrogateescape")
    if patch:
        git("apply", "--whitespace=nowarn", "-", folder=folder, stdin=patch)


def link_source(folder: Path, source: str) -> None:
    """Link an untracked source of images into a clone, at the same relative path.

    A path outside the project needs no link, and gets none: nothing is written outside `folder`.
    """
    target, link = project.root() / source, folder / source
    is_inside = not Path(source).is_absolute() and link.resolve().is_relative_to(folder.resolve())
    if is_inside and target.exists() and not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def restore_outputs(folder: Path) -> None:
    """Restore the outputs in a clone's dvc.lock that the cache or the remote has.

    A failing remote is only a warning: the cache may have everything.
    """
    if _has_remote(folder):
        try:
            run(folder, "pull", "--allow-missing", "--run-cache")
        except PipelineError:
            terminal.warn("cannot pull from the remote; what is missing here is computed")
    run(folder, "checkout", "--allow-missing")


def _has_remote(folder: Path) -> bool:
    process = subprocess.run(  # noqa: S603
        dvc.command("remote", "list"),
        cwd=folder,
        env=_environment(),
        capture_output=True,
    )
    return bool(process.stdout.strip())


def run(folder: Path, *arguments: str) -> list[str]:
    """Run DVC in a clone, and name the stages that it runs; return them.

    Raises:
        PipelineError: DVC fails; all that it and its stages printed is then on stderr.
    """
    with progress.activity(f"dvc {arguments[0]}"):
        exit_code, lines = dvc.run_quietly(
            *arguments, folder=folder, environment=_environment(), on_line=_name_stage
        )
    if exit_code:
        for line in lines:
            terminal.print_line(*line.rstrip("\n").split("\t"), file=sys.stderr)
        raise PipelineError(f"dvc {' '.join(arguments)} failed in {folder}: see above")
    return [match[1] for line in lines if (match := dvc.RUNNING_STAGE.match(line))]


def _name_stage(line: str) -> None:
    if match := dvc.RUNNING_STAGE.match(line):
        terminal.print_line(f"computing {match[1]}", file=sys.stderr)


def _environment() -> dict[str, str]:
    """The environment without variables of this project: the clone has its own MLflow store."""
    prefixes = ("DVC_", "MLFLOW_", "GIT_", "PYTHONPATH")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(prefixes)
    }
    return environment | {"DVC_NO_ANALYTICS": "true"}
