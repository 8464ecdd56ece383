"""Whether a logged model answers, loaded as a server loads it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.core.progress import activity
from pipeline.core.terminal import printable

SECONDS = 300  # for imports from a slow disk, and one image
# In a process of its own, outside the project: the model brings the code that it was logged with.
# Garbage is not collected, nor are modules taken apart at the end, as in `program`; and MLflow does
# not search all installed packages for versions to warn of. That saves a third of the time.
PROGRAM = """
import gc, json, os, sys
gc.disable()
import mlflow.pyfunc, pandas
model = mlflow.pyfunc.load_model(sys.argv[1], suppress_warnings=True)
with open(sys.argv[1] + "/input_example.json") as file:
    example = pandas.DataFrame(**json.load(file))
print(json.dumps(model.predict(example).to_dict("records")), flush=True)
os._exit(0)
"""
ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_WAIT_POLICY": "passive"}


def ask_once(model: Path, classes: Sequence[str]) -> None:
    """Load a fetched logged model in a new process, and have it classify its example.

    Raises:
        PipelineError: it does not load, or gives no class.
    """
    try:
        ended = _run(model)
    except subprocess.TimeoutExpired as error:
        raise PipelineError(f"the model gave no answer within {SECONDS} s: not promoted") from error
    if problem := _problem(ended, classes):
        raise PipelineError(f"the model does not answer as it would be served ({problem})")


def _run(model: Path) -> "subprocess.CompletedProcess[str]":
    with activity("promote: load the model as MLflow serves it"):
        return subprocess.run(  # noqa: S603 - the program above
            [sys.executable, "-P", "-c", PROGRAM, str(model.absolute())],
            cwd=model,
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )


def _problem(ended: "subprocess.CompletedProcess[str]", classes: Sequence[str]) -> str:
    """What is wrong with the answer, "" if nothing is."""
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or [f"exit code {ended.returncode}"]
        return printable(last[0])
    try:
        (answer,) = json.loads(ended.stdout.strip().splitlines()[-1])
        label, probability = answer["label"], float(answer["probability"])
    except (ValueError, TypeError, KeyError, IndexError):
        return f"it printed {printable(ended.stdout[-200:])!r}"
    if label not in classes or not 0 < probability <= 1:
        return f"it answered {printable(str(answer))}"
    return ""
