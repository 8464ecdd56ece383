"""The few things that are asked of git."""

import subprocess
from pathlib import Path

from pipeline import project
from pipeline.errors import PipelineError


def git(*arguments: str, folder: Path | None = None, given: str | None = None) -> str:
    """What git prints.

    Raises:
        PipelineError: it fails; the sentence is git's own.
    """
    where = folder or project.root()
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(where), *arguments], capture_output=True, encoding="utf-8",  # noqa: S607
            errors="surrogateescape", input=given,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise PipelineError("git is not installed: what made a model cannot be told") from error
    if done.returncode:
        said = " ".join(done.stderr.split())[:300]
        raise PipelineError(f"git {arguments[0]} in {where} fails: {said}")
    return done.stdout


def text_at(revision: str, path: str) -> str | None:
    """A file as a revision has it, or None."""
    try:
        return git("show", f"{revision}:{path}")
    except PipelineError:
        return None


def knows(revision: str) -> bool:
    """Whether there is such a commit here."""
    try:
        git("cat-file", "-e", f"{revision}^{{commit}}")
    except PipelineError:
        return False
    return True
