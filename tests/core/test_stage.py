import subprocess
import sys

import pytest

from pipeline.core import stage
from pipeline.core.errors import PipelineError

SCRIPT = """
import errno
from pipeline import stage
from pipeline.errors import PipelineError

def main(number: int, path: str = "none") -> None:
    print("number", number + 1, path)
    {body}

stage.run(main)
"""


def run(body: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a stage, as DVC would start it."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=body), *arguments],
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_stage_reads_its_parameters_from_the_command_line() -> None:
    assert run("pass", "41") == (0, "number 42 none\n", "")


@pytest.mark.parametrize(
    ("body", "said"),
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
def test_what_people_can_mend_is_one_line_and_exit_code_1(body: str, said: str) -> None:
    code, _, stderr = run(body, "1")
    assert (code, stderr) == (1, said + "\n")


def test_an_error_from_another_one_shows_no_traceback_either() -> None:
    code, _, stderr = run(
        "try:\n        1 / 0\n    except ArithmeticError as e: raise PipelineError('x') from e", "1"
    )
    assert (code, stderr) == (1, "error: x\n")


def test_ctrl_c_exits_with_130_without_a_traceback() -> None:
    code, _, stderr = run("raise KeyboardInterrupt", "1")
    assert code == 130
    assert "Traceback" not in stderr


def test_a_bug_keeps_its_traceback() -> None:
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
def test_any_command_exits_alike(error: BaseException, code: int | str) -> None:
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        stage.exit_on_failure(command)
    assert caught.value.code == code


@pytest.mark.parametrize("error", [ValueError("bug"), OSError("told in no system's words")])
def test_any_other_error_escapes(error: Exception) -> None:
    def command() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        stage.exit_on_failure(command)
    assert caught.value is error


STARTED = """
import gc, sys
kept, sys.argv = sys.argv, {given}  # as Python has it while it imports the package of a `-m`
import pipeline
sys.argv = kept
print(gc.isenabled())
from pipeline import stage
stage.run(lambda: print(gc.isenabled(), gc.get_freeze_count() > 0))
"""


@pytest.mark.parametrize(("given", "while_importing"), [(["-m"], False), (["notebook"], True)])
def test_garbage_is_not_looked_for_while_a_stage_is_imported(
    given: list[str], while_importing: bool
) -> None:
    command = [sys.executable, "-c", STARTED.format(given=given)]
    said = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    assert said == [str(while_importing), "True True"]
