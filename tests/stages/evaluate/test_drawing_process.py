"""The drawing process: its results, its errors, and its end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.core.errors import PipelineError
from pipeline.stages.evaluate.drawing_process import DrawingProcess

STAGE = """
import time
from pipeline.core import stage
from pipeline.stages.evaluate.drawing_process import DrawingProcess

def main() -> None:
    with DrawingProcess() as drawing:
        future = drawing.submit(time.sleep, 60)
        print("started", flush=True)
        future.result()

stage.run(main)
"""


@pytest.fixture(scope="module")
def drawing() -> Iterator[DrawingProcess]:
    with DrawingProcess() as process:
        yield process


def list_imported(*names: str) -> list[str]:
    return [name for name in names if name in sys.modules]


def fail(error: Exception) -> None:
    raise error


def test_it_imports_what_draws_before_the_first_picture_and_never_torch(
    drawing: DrawingProcess,
) -> None:
    needed = drawing.submit(list_imported, "matplotlib.backends.backend_agg", "sklearn.manifold")
    assert len(needed.result()) == 2
    assert drawing.submit(list_imported, "torch", "mlflow", "pandas", "typer").result() == []
    assert drawing.submit(os.getpid).result() != os.getpid()


def test_what_takes_long_is_imported_after_the_start_of_the_process() -> None:
    program = "import sys, pipeline.stages.evaluate.__main__; print(*sys.modules)"
    imported = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert "pipeline.stages.evaluate.drawing_process" in imported
    assert not set(imported) & {"torch", "numpy", "pyarrow", "PIL", "sklearn", "matplotlib"}


@pytest.mark.parametrize("error", [PipelineError("what, where"), ValueError("a bug")])
def test_errors_of_a_function_are_those_of_its_result(
    drawing: DrawingProcess, error: Exception
) -> None:
    future = drawing.submit(fail, error)
    with pytest.raises(type(error), match=str(error)) as caught:
        future.result()
    assert "in fail" in "".join(caught.value.__notes__)  # the traceback of the other process


def test_a_process_that_is_killed_is_an_error_in_a_sentence(drawing: DrawingProcess) -> None:
    future = drawing.submit(os.kill, drawing.submit(os.getpid).result(), signal.SIGKILL)
    with pytest.raises(PipelineError, match="draws the pictures failed: it was ended by SIGKILL"):
        future.result()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_no_process_is_left_when_the_stage_is_stopped(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    (tmp_path / "stage.py").write_text(STAGE)
    command = [sys.executable, str(tmp_path / "stage.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as stage:
        assert stage.stdout is not None
        assert stage.stderr is not None
        assert stage.stdout.readline() == b"started\n"
        children = psutil.Process(stage.pid).children(recursive=True)
        stage.send_signal(number)
        assert stage.wait() == code
        assert children
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive
        assert stage.stderr.read() == b""
