"""MLflow's store."""

import errno
import os
import subprocess
import sys

import pytest

from pipeline.core.errors import PipelineError
from pipeline.tracking import store
from tests import ROOT

# mlflow itself sets variables when it is imported.
PROGRAM = """
import os, mlflow
before = dict(os.environ)
import pipeline.tracking.store
print(dict(os.environ) == before)
"""


def test_importing_the_module_leaves_the_environment_as_it_is() -> None:
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("MLFLOW_")}
    environment["DO_NOT_TRACK"] = "true"
    command = [sys.executable, "-c", PROGRAM]
    assert subprocess.check_output(command, cwd=ROOT, env=environment, text=True) == "True\n"


def test_a_full_disk_is_no_failure_of_the_store() -> None:
    with (
        pytest.raises(PipelineError, match=r"^registered/m-1: No space left on device$"),
        store.errors_as_sentences(),
    ):
        raise OSError(errno.ENOSPC, "No space left on device", "registered/m-1")
