"""DVC commands that `pipeline ci` runs: pull, repro or exp run, push."""

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

RESTORED_STAGE = re.compile(r"Stage '([^']+)' is cached - skipping run")
UNCHANGED_STAGE = re.compile(r"Stage '([^']+)' didn't change")
MAX_REASON_LENGTH = 200  # characters


@dataclass(frozen=True)
class StageOutcomes:
    """Names of the stages by what DVC did, in the order of the pipeline."""

    ran: tuple[str, ...]
    restored: tuple[str, ...]
    """From DVC's run cache, or its cache of outputs."""
    unchanged: tuple[str, ...]

    def describe(self) -> str:
        """In one sentence."""
        if not self.ran and not self.restored:
            return "nothing to do: every stage is up to date"
        parts = [f"ran {', '.join(self.ran)}" if self.ran else "ran nothing"]
        if self.restored:
            parts.append(f"restored {', '.join(self.restored)}")
        if self.unchanged:
            parts.append(f"{len(self.unchanged)} up to date")
        return "; ".join(parts)


def default_remote() -> str | None:
    """The name of DVC's default remote, None if there is none.

    Raises:
        PipelineError: DVC fails.
    """
    process = subprocess.run(  # noqa: S603
        dvc.command("config", "core.remote"),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if process.returncode != 0:
        reason = " ".join(process.stderr.split())[:MAX_REASON_LENGTH]
        raise PipelineError(f"DVC fails here ({reason}): run this in the project's folder")
    return process.stdout.strip() or None


def pull() -> bool:
    """Fetch data and run cache; returns success. Files that the remote lacks are not a failure."""
    return _run("pull", "--run-cache", "--allow-missing")[0] == 0


def checkout() -> None:
    """Restore the outputs in dvc.lock from the cache, as `pull` does. `split` needs its last
    output: DVC does not restore a stage with a persistent output from the run cache."""
    _run("checkout", "--allow-missing")


def push() -> bool:
    """Upload data and run cache; returns success."""
    if _run("push", "--run-cache")[0] != 0:
        return False
    try:
        with dvc.errors_as_sentences("DVC cannot push metrics.json", "see `dvc doctor`"):
            return _push_uncached()
    except PipelineError as error:
        terminal.warn(str(error))
        return False


def reproduce(overrides: Overrides, pull: bool) -> StageOutcomes:
    """Run what has changed in the workspace: `dvc repro`, or `dvc exp run` with overrides.

    Args:
        pull: Whether to fetch outputs of stages in the run cache from the remote.

    Raises:
        PipelineError: a stage fails; params.yaml and an earlier experiment of that name are as
            they were before.
    """
    options = ["--pull"] if pull else []
    if not overrides.values:
        return _run_stages("repro", *options)
    with _restored_on_failure(overrides.experiment):
        name = ["--name", overrides.experiment]
        return _run_stages("exp", "run", *options, *name, *overrides.options())


@contextmanager
def _restored_on_failure(experiment: str) -> Iterator[None]:
    """Remove the experiment, so that DVC can create it; put it back if the block fails."""
    params = Path(PARAMS).read_bytes()
    if revisions.backup_experiment(experiment):  # the outputs of its stages stay in the cache
        _run("exp", "remove", experiment)
    try:
        yield
    except BaseException:
        Path(PARAMS).write_bytes(params)
        revisions.restore_experiment(experiment)
        raise
    revisions.delete_backup(experiment)


def _run_stages(*arguments: str) -> StageOutcomes:
    exit_code, lines = _run(*arguments)
    if exit_code != 0:
        command = "dvc exp run" if arguments[0] == "exp" else "dvc repro"
        raise PipelineError(f"`{command}` failed: see its output above")
    return parse_outcomes(lines)


def parse_outcomes(lines: Sequence[str]) -> StageOutcomes:
    """What each stage did, from the output of `dvc repro` or `dvc exp run`."""
    ran, restored, unchanged = (
        tuple(match[1] for line in lines if (match := pattern.match(line)))
        for pattern in (dvc.RUNNING_STAGE, RESTORED_STAGE, UNCHANGED_STAGE)
    )
    return StageOutcomes(ran, restored, unchanged)


def _push_uncached() -> bool:
    """Push outputs with `cache: false` (metrics.json), which `dvc push` leaves out.

    Without them, no other machine could restore their stage from the run cache.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        digests = {
            out.hash_info
            for out in repo.index.outs
            if not out.use_cache and out.hash_info and repo.cache.local.exists(out.hash_info.value)
        }
        return not (digests and repo.cloud.push(digests).failed)


def _run(*arguments: str) -> tuple[int, list[str]]:
    """Print and run a DVC command; return its exit code and printed lines."""
    terminal.print_line(f"$ dvc {' '.join(arguments)}")
    return dvc.run(*arguments)
