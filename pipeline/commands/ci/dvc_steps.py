"""The few things that are asked of DVC."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.commands.ci import revisions
from pipeline.commands.ci.overrides import Overrides
from pipeline.commands.ci.revisions import PARAMS
from pipeline.core import terminal
from pipeline.core.errors import PipelineError
from pipeline.experiments import dvc

RESTORED = re.compile(r"Stage '([^']+)' is cached - skipping run")
UNCHANGED = re.compile(r"Stage '([^']+)' didn't change")


@dataclass(frozen=True)
class Stages:
    """What became of each stage, in order."""

    ran: tuple[str, ...]
    restored: tuple[str, ...]
    """From DVC's cache of runs, or of outputs."""
    unchanged: tuple[str, ...]

    def told(self) -> str:
        """In one sentence."""
        if not self.ran and not self.restored:
            return "nothing to do: every stage is up to date"
        counts = [f"{len(self.unchanged)} up to date"] if self.unchanged else []
        kept = [f"restored {', '.join(self.restored)}"] if self.restored else []
        what = [f"ran {', '.join(self.ran)}"] if self.ran else ["computed nothing"]
        return "; ".join([*what, *kept, *counts])


def remote() -> str | None:
    """The name of the default remote.

    Raises:
        PipelineError: DVC does not say.
    """
    done = subprocess.run(  # noqa: S603
        dvc.command("config", "core.remote"), capture_output=True, text=True
    )
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())[:200]
        raise PipelineError(f"DVC fails here ({reason}): run this in the project's folder")
    return done.stdout.strip() or None


def pull() -> bool:
    """Fetch what the remote has of data and runs; what it lacks is no failure."""
    return _run("pull", "--run-cache", "--allow-missing")[0] == 0


def checkout() -> None:
    """Put the data in the state of dvc.lock, as `pull` does: of `split`, the last output counts."""
    _run("checkout", "--allow-missing")


def push() -> bool:
    """Hand on data and runs."""
    if _run("push", "--run-cache")[0] != 0:
        return False
    try:
        with dvc.errors_as_sentences("DVC does not push what git keeps", "see `dvc doctor`"):
            return _push_uncached()
    except PipelineError as error:
        terminal.warn(str(error))
        return False


def reproduce(asked: Overrides, pulling: bool) -> Stages:
    """Run what has changed: in the workspace, as it stands in the commit but for what is asked.

    Args:
        pulling: Ask the remote for the outputs of runs that others made.

    Raises:
        PipelineError: a stage fails; params.yaml, and an earlier experiment, are as they were.
    """
    pull = ["--pull"] if pulling else []
    if not asked.changes:
        return _stages("repro", *pull)
    with _as_before(asked.experiment):
        name = ["--name", asked.experiment]
        return _stages("exp", "run", *pull, *name, *asked.options())


@contextmanager
def _as_before(experiment: str) -> Iterator[None]:
    """Make room for an experiment; where the block fails, the one of that name is back."""
    params = Path(PARAMS).read_bytes()
    if revisions.keep(experiment):  # DVC would refuse; what its stages made is cached
        _run("exp", "remove", experiment)
    try:
        yield
    except BaseException:
        Path(PARAMS).write_bytes(params)
        revisions.restore(experiment)
        raise
    revisions.forget(experiment)


def _stages(*words: str) -> Stages:
    code, lines = _run(*words)
    if code != 0:
        command = "dvc exp run" if words[0] == "exp" else "dvc repro"
        raise PipelineError(f"`{command}` failed: what it said is above")
    return stages(lines)


def stages(lines: Sequence[str]) -> Stages:
    """What `dvc repro` or `dvc exp run` says that it did."""
    ran, restored, unchanged = (
        tuple(found[1] for line in lines if (found := pattern.match(line)))
        for pattern in (dvc.RAN, RESTORED, UNCHANGED)
    )
    return Stages(ran, restored, unchanged)


def _push_uncached() -> bool:
    """Push what git keeps of a stage's outputs, metrics.json: `dvc push` leaves it out.

    Without it no other machine could restore that stage from the cache of runs.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        kept = {
            out.hash_info
            for out in repo.index.outs
            if not out.use_cache and out.hash_info and repo.cache.local.exists(out.hash_info.value)
        }
        return not (kept and repo.cloud.push(kept).failed)


def _run(*arguments: str) -> tuple[int, list[str]]:
    """The exit code, and the lines that it printed; all of it goes past."""
    print(f"$ dvc {' '.join(arguments)}", flush=True)
    return dvc.run(*arguments)
