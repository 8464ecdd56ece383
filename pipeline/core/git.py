"""The git commands that the package runs."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import PipelineError


def git(*arguments: str, folder: Path | None = None, stdin: str | None = None) -> str:
    """Run git and return its standard output.

    Raises:
        PipelineError: it fails; the message is git's own.
    """
    try:
        process = _run(arguments, folder, stdin)
    except FileNotFoundError as error:
        raise PipelineError(
            "git is not installed: install it, it records the code of models"
        ) from error
    if process.returncode:
        reason = " ".join(process.stderr.split())[:300]
        raise PipelineError(f"git {arguments[0]} in {folder or Path.cwd()} fails: {reason}")
    return process.stdout


def try_git(*arguments: str, expected_code: int = 0) -> str | None:
    """Run git and return its standard output; None for another exit code or without git."""
    try:
        process = _run(arguments, None, None)
    except OSError:
        return None
    return process.stdout if process.returncode == expected_code else None


def commit_of(name: str) -> str | None:
    """The full hash of the commit that a branch, tag or other name refers to, or None."""
    # --end-of-options: a name that starts with a dash is a name.
    commit = try_git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return commit and commit.strip()


def text_at(commit: str, path: str) -> str | None:
    """The text of a file in a commit, or None."""
    return try_git("show", f"{commit}:./{path}")


def read_blobs(ids: Sequence[str]) -> list[bytes]:
    """The contents of files by their ids in git's object store.

    Raises:
        PipelineError: git lacks one of them.
    """
    process = subprocess.run(
        ["git", "cat-file", "--batch"],  # noqa: S607
        input="".join(f"{key}\n" for key in ids).encode(),
        capture_output=True,
        check=False,
    )
    output, contents, start = process.stdout, list[bytes](), 0
    for key in ids:
        # "<id> blob <size>\n<content>\n", or "<id> missing\n"
        end = output.find(b"\n", start)
        header = output[start:end].split()
        if len(header) != 3:
            raise PipelineError(f"git has no object {key} (`git fsck` lists what it lacks)")
        start = end + 1 + int(header[2]) + 1
        contents.append(output[end + 1 : start - 1])
    return contents


def _run(
    arguments: Sequence[str], folder: Path | None, stdin: str | None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        ["git", *arguments],  # noqa: S607
        cwd=folder,
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
    )
