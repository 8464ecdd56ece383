import subprocess
import sys
import time

import pytest

from pipeline.core import stage
from pipeline.core.errors import PipelineError

SCRIPT = """
import errno
from pipeline.core import stage
from pipeline.core.errors import PipelineError

def main(number: int, path: str = "none") -> None:
    print("number", number + 1, path)
    {body}

stage.run(main)
"""


def run(body: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a stage, as DVC would start it."""
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=body), *arguments],
        capture_output=True,
        text=True,
    )
    return process.returncode, process.stdout, process.stderr


def test_a_stage_reads_its_parameters_from_the_command_line() -> None:
    assert run("pass", "41") == (0, "number 42 none\n", "")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise PipelineError('data is gone: get it again')", "error: data is gone: get it again"),
        (
            "open('/nowhere/at/all')",
            "error: /nowhere/at/all: No such file or directory",
        ),
        (
            "raise OSError(errno.ENOSPC, 'No space left on device')",
            "error: No space left on device",
        ),
    ],
    ids=["pipeline error", "missing file", "full disk"],
)
def test_bad_input_is_one_line_and_exit_code_1(body: str, message: str) -> None:
    code, _, stderr = run(body, "1")
    assert (code, stderr) == (1, message + "\n")


def test_a_chained_error_prints_no_traceback() -> None:
    code, _, stderr = run(
        "try:\n        1 / 0\n    except ArithmeticError as e: raise PipelineError('x') from e", "1"
    )
    assert (code, stderr) == (1, "error: x\n")


def test_ctrl_c_exits_with_130_without_a_traceback() -> None:
    code, _, stderr = run("raise KeyboardInterrupt", "1")
    assert code == 130
    assert "Traceback" not in stderr


def test_another_exception_prints_its_traceback() -> None:
    code, _, stderr = run("raise KeyError('bug')", "1")
    assert code == 1
    assert stderr.startswith("Traceback")
    assert stderr.endswith("KeyError: 'bug'\n")


def test_a_wrong_argument_is_exit_code_2() -> None:
    code, stdout, stderr = run("pass", "many")
    assert (code, stdout) == (2, "")
    assert "number" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PipelineError("bad"), "error: bad"),
        (PermissionError(13, "Permission denied", "out"), "error: out: Permission denied"),
        (KeyboardInterrupt(), 130),
    ],
)
def test_the_exit_code_depends_on_the_error(error: BaseException, code: int | str) -> None:
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        stage.exit_on_failure(command)
    assert caught.value.code == code


@pytest.mark.parametrize("error", [ValueError("bug"), OSError("not from the system")])
def test_any_other_error_escapes(error: Exception) -> None:
    def command() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        stage.exit_on_failure(command)
    assert caught.value is error


PRINT_WHETHER_GC_IS_ENABLED = """
import gc, sys
argv, sys.argv = sys.argv, {argv}  # ["-m"] while Python imports the package of a `-m`
import pipeline
sys.argv = argv
print(gc.isenabled())
from pipeline.core import stage
stage.run(lambda: print(gc.isenabled(), gc.get_freeze_count() > 0))
"""


@pytest.mark.parametrize(("argv", "is_enabled"), [(["-m"], False), (["notebook"], True)])
def test_the_garbage_collector_is_off_while_a_stage_is_imported(
    argv: list[str], is_enabled: bool
) -> None:
    command = [sys.executable, "-c", PRINT_WHETHER_GC_IS_ENABLED.format(argv=argv)]
    output = subprocess.run(command, capture_output=True, text=True).stdout
    assert output.splitlines() == [str(is_enabled), "True True"]


def test_the_first_rank_of_a_distributed_training_says_what_is_wrong_before_others_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torchrun kills the first rank as soon as another ends."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)

    def fail() -> None:
        raise PipelineError("wrong")

    codes = []
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(SystemExit) as caught:
            stage.exit_on_failure(fail)
        codes.append(caught.value.code)
    assert codes == ["error: wrong", 1]
    assert waited == [stage.RANK_SECONDS]
