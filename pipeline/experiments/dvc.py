"""DVC's commands, as people type them, with what they print passed on; and its Python."""

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

RAN = re.compile(r"Running stage '([^']+)'")


def run(
    *arguments: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    out: TextIO | None = None,
) -> tuple[int, list[str]]:
    """The exit code, and the lines that it printed; errors and progress bars go past.

    Args:
        folder: Where it works, if not here.
        environment: That it has, if not ours.
        out: Where the lines are printed, if not on standard output.
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
def errors_as_sentences(what: str, advice: str) -> Iterator[None]:
    """Around calls of DVC's Python, and nothing else: turn what it fails with into a sentence.

    Each kind of remote fails with errors of its own, which have no ancestor but Exception.

    Raises:
        PipelineError: it fails.
    """
    try:
        yield
    except Exception as error:
        raise PipelineError(f"{what} ({one_line(error)}): {advice}") from error


def command(*arguments: str) -> list[str]:
    """What starts it: this environment's, whatever is on the path."""
    return [sys.executable, "-m", "dvc", *arguments]


def with_python(environment: Mapping[str, str]) -> dict[str, str]:
    """The stages' `python` is this one, also where the environment was not activated."""
    path = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    return {**environment, "PATH": path}
