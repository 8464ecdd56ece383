"""This process as a program, `python -m pipeline...` or `pipeline`: how it starts and ends fast."""

import atexit
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

STAGES = "pipeline.stages."
# Python sets the first argument to "-m" until it has imported the packages of a module.
START = time.monotonic()
IS_PROGRAM = sys.argv[:1] == ["-m"] or Path(sys.argv[0]).name == "pipeline"


def stage_name() -> str | None:
    """The stage that this process is, as DVC starts it; None in others, and in further ranks."""
    module = next((after for word, after in pairwise(sys.orig_argv) if word == "-m"), "")
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"  # in distributed training
    is_stage = module.startswith(STAGES) and IS_PROGRAM and is_first
    return module.removeprefix(STAGES) if is_stage else None


def is_first_process() -> bool:
    """Whether this process is alone, or the first of those that train together on all machines.

    torchrun sets RANK. Otherwise NODE_RANK numbers the machines, and Lightning Fabric sets
    LOCAL_RANK in the processes that it starts on each.
    """
    is_of_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    names = ("RANK",) if is_of_torchrun else ("NODE_RANK", "LOCAL_RANK")
    return all(os.environ.get(name, "0") == "0" for name in names)


def start() -> None:
    """Collect no garbage until `end_start`, and set what torch and mlflow read when imported.

    Imports create no garbage, and collecting takes a quarter of the time of importing torch and
    mlflow. Threads of torch that wait for one another sleep: otherwise they take the cores from the
    processes that run beside them, and an operation waits for a thread that cannot run. MLflow does
    not report its use to its makers.

    A notebook that imports the package keeps its own settings.
    """
    if IS_PROGRAM:
        gc.disable()
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def end_start() -> None:
    """Collect garbage from now on, but not among what was imported: a search takes 0.4 s."""
    gc.freeze()
    gc.enable()


@contextmanager
def imports() -> Iterator[None]:
    """Import in the block, without collecting garbage."""
    start()
    yield
    if IS_PROGRAM:
        end_start()


def stop_collecting() -> None:
    """Collect no garbage when Python ends: with torch, that takes over a second."""
    gc.disable()
    gc.freeze()


def end() -> None:
    """End a program that succeeded, without taking apart its modules: with torch, 0.2 s.

    What Python does first is done: threads are joined, exit functions run and output is flushed.
    """
    if not IS_PROGRAM:
        return
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
