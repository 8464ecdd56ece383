"""Programs in a pseudo-terminal."""

import os
import pty
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_in_terminal(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> tuple[bytes, int]:
    """The raw bytes that a program sends to its terminal, and its exit code."""
    parent, child = pty.openpty()
    with subprocess.Popen(
        command, cwd=folder, stdin=child, stdout=child, stderr=child, env=environment
    ) as process:
        os.close(child)
        chunks = []
        try:
            while chunk := os.read(parent, 2**16):
                chunks.append(chunk)
        except OSError:  # Linux's end of a pseudo-terminal
            pass
        os.close(parent)
    return b"".join(chunks), process.returncode
