"""The few things that are asked of git, in the working directory or another."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import PipelineError


def git(*arguments: str, folder: Path | None = None, given: str | None = None) -> str:
    """What git prints; `given` is its standard input.

    Raises:
        PipelineError: it fails; the sentence is git's own.
    """
    try:
        done = _run(arguments, folder, given)
    except FileNotFoundError as error:
        raise PipelineError("git is not installed: what made a model cannot be told") from error
    if done.returncode:
        reason = " ".join(done.stderr.split())[:300]
        raise PipelineError(f"git {arguments[0]} in {folder or Path.cwd()} fails: {reason}")
    return done.stdout


def asked(*arguments: str, usual: int = 0) -> str | None:
    """What git prints, or None where it ends with another code than is usual, or is not there."""
    try:
        done = _run(arguments, None, None)
    except OSError:
        return None
    return done.stdout if done.returncode == usual else None


def commit_of(name: str) -> str | None:
    """The commit that a branch, tag or other name stands for, in full; None where there is none."""
    # --end-of-options: a name that starts with a dash is a name.
    found = asked("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return found and found.strip()


def text_at(commit: str, path: str) -> str | None:
    """A file as a commit has it, or None."""
    return asked("show", f"{commit}:./{path}")


def _run(
    arguments: Sequence[str], folder: Path | None, given: str | None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        ["git", *arguments],  # noqa: S607
        cwd=folder,
        input=given,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
    )
