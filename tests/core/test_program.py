"""What a program sets up when it starts."""

import os
import subprocess
import sys

import pytest

from tests import ROOT

# Python itself sets this argument while `python -m pipeline...` starts.
PROGRAM = """
import os, sys
sys.argv = {arguments!r}
import pipeline
print(*[os.environ.get(name, "default") for name in {names}], "torch" in sys.modules)
"""
NAMES = ("OMP_WAIT_POLICY", "MLFLOW_DISABLE_TELEMETRY")


def settings(arguments: list[str], **environment: str) -> str:
    inherited = {name: os.environ[name] for name in os.environ if name not in NAMES}
    program = PROGRAM.format(arguments=arguments, names=NAMES)
    command = [sys.executable, "-c", program]
    return subprocess.check_output(command, cwd=ROOT, env=inherited | environment, text=True)


@pytest.mark.parametrize("arguments", [["-m"], ["/usr/bin/pipeline", "predict"]])
def test_a_program_sets_what_torch_and_mlflow_read(arguments: list[str]) -> None:
    assert settings(arguments) == "passive true False\n"
    own = {"OMP_WAIT_POLICY": "active", "MLFLOW_DISABLE_TELEMETRY": "false"}
    assert settings(arguments, **own) == "active false False\n"


def test_another_program_that_imports_the_package_keeps_its_own_settings() -> None:
    assert settings(["notebook.py"]) == "default default False\n"
