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
print(os.environ.get("OMP_WAIT_POLICY", "default"), "torch" in sys.modules)
"""


def wait_policy(arguments: list[str], **environment: str) -> str:
    inherited = {name: os.environ[name] for name in os.environ if name != "OMP_WAIT_POLICY"}
    program = PROGRAM.format(arguments=arguments)
    command = [sys.executable, "-c", program]
    return subprocess.check_output(command, cwd=ROOT, env=inherited | environment, text=True)


@pytest.mark.parametrize("arguments", [["-m"], ["/usr/bin/pipeline", "predict"]])
def test_threads_of_a_program_sleep_while_they_wait(arguments: list[str]) -> None:
    assert wait_policy(arguments) == "passive False\n"
    assert wait_policy(arguments, OMP_WAIT_POLICY="active") == "active False\n"


def test_another_program_that_imports_the_package_keeps_its_own_policy() -> None:
    assert wait_policy(["notebook.py"]) == "default False\n"
