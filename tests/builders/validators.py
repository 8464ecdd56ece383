"""The official validators of exported metadata, in an environment of their own."""

import os
import subprocess
from pathlib import Path

import pytest

VARIABLE = "PIPELINE_TEST_VALIDATORS"  # set by `make validators`: the folder of their programs


def run(program: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a validator; skip the test where there is none."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(f"{program} is not installed: `make validators` runs this test")
    command = [str(Path(folder) / program), *words]
    return subprocess.run(command, capture_output=True, text=True)
