"""A commit checked out aside, with the project's cache and remotes, for DVC to work in."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.core import project, terminal
from pipeline.core.errors import PipelineError
from pipeline.core.git import git
from pipeline.experiments import dvc
from pipeline.tracking import store


@contextmanager
def place(keep: bool) -> Iterator[Path]:
    """A folder of its own for a run to be made again in, until the block ends.

    Those of killed processes are removed: they have what opens the remotes.

    Args:
        keep: Whether it stays.
    """
    parent = project.cache() / "reproduce"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # a clone has what opens its remotes
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
        with store.exclusive("reproduce"):  # otherwise another process removes a kept folder
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
    """Make `folder` a clone of the project that stands at `revision`; it replaces what was there.

    Objects are shared: so commits that no branch has are there too, as those of experiments are.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if git("rev-parse", "--is-shallow-repository").strip() == "true":
        raise PipelineError("this clone has no history: `git fetch --unshallow` gets it")
    git("clone", "--quiet", "--shared", "--no-checkout", str(project.root()), str(folder))
    git("checkout", "--quiet", "--detach", revision, folder=folder)
    _configure(folder)


def _configure(folder: Path) -> None:
    """Give a clone the project's own settings of DVC, its cache and its remotes."""
    from dvc.repo import Repo

    with (
        dvc.errors_as_sentences("DVC does not open the project", "see `dvc doctor`"),
        Repo(str(project.root())) as own,
        Repo(str(folder)) as other,
    ):
        mine = own.config
        with other.config.edit("local") as local:
            local["cache"] = {"dir": own.cache.local_cache_dir}
            # As DVC has resolved them: a relative path would lead elsewhere from here.
            local["remote"] = {name: dict(remote) for name, remote in mine["remote"].items()}
            if mine["core"].get("remote"):
                local["core"] = {"remote": mine["core"]["remote"]}
    (folder / ".dvc/config.local").chmod(0o600)  # it may hold what opens the remote


def write(folder: Path, files: Mapping[str, str], changes: str) -> None:
    """Lay texts over a clone, and a patch over these.

    Raises:
        PipelineError: the patch does not fit the commit.
    """
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8", "surrogateescape")
    if changes:
        git("apply", "--whitespace=nowarn", "-", folder=folder, stdin=changes)


def lend(folder: Path, source: str) -> None:
    """Let a clone see a source of images that git does not know, by its path in the project."""
    own, there = project.root() / source, folder / source
    outside = Path(source).is_absolute() or not there.resolve().is_relative_to(folder.resolve())
    if not outside and own.exists() and not there.exists():
        there.parent.mkdir(parents=True, exist_ok=True)
        there.symlink_to(own)


def fill(folder: Path) -> None:
    """Put what the lock of a clone names in its place, as far as the cache and the remote have it.

    A remote that fails costs a warning: the cache may have it all.
    """
    if _has_remote(folder):
        try:
            run(folder, "pull", "--allow-missing", "--run-cache")
        except PipelineError:
            terminal.warn("the remote fails; what is not here is computed")
    run(folder, "checkout", "--allow-missing")


def _has_remote(folder: Path) -> bool:
    done = subprocess.run(  # noqa: S603
        dvc.command("remote", "list"),
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
    )
    return bool(done.stdout.strip())


def run(folder: Path, *arguments: str) -> list[str]:
    """Run DVC in a clone, its output on stderr; return the stages that it ran.

    Raises:
        PipelineError: it fails; what it said stands above.
    """
    code, lines = dvc.run(*arguments, folder=folder, environment=_environment(), out=sys.stderr)
    if code:
        raise PipelineError(f"dvc {' '.join(arguments)} failed in {folder}: see above")
    return [found[1] for line in lines if (found := dvc.RAN.match(line))]


def _environment() -> dict[str, str]:
    """Ours, without what names this project; its runs go to a store of the clone's own."""
    strange = ("DVC_", "MLFLOW_", "GIT_", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    return kept | {"DVC_NO_ANALYTICS": "true"}
