"""Run DVC's commands, and call its Python API."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pipeline.core.errors import PipelineError
from pipeline.core.terminal import one_line

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
    lines = []
    with subprocess.Popen(  # noqa: S603
        command(*arguments),
        cwd=folder,
        env=with_python(environment or os.environ),
        text=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", file=out, flush=True)
            lines.append(line)
    return process.returncode, lines


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


def command(*arguments: str) -> list[str]:
    """The command line that runs the DVC of this Python environment, whatever is on the PATH."""
    return [sys.executable, "-m", "dvc", *arguments]


def with_python(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` in which `python` is this Python, even if its venv is not activated."""
    path = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    return {**environment, "PATH": path}
