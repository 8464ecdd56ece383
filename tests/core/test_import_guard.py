"""What a program prints that is interrupted, or lacks memory, while it imports."""

import subprocess
import sys
import textwrap

import pytest

from tests import ROOT


def end_as_program(code: str) -> "subprocess.CompletedProcess[str]":
    """Run code as a program does that has imported the package, and nothing else yet."""
    start = "import sys; sys.argv = ['pipeline']; import os, signal, pipeline, resource\n"
    return subprocess.run(
        [sys.executable, "-c", start + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


@pytest.mark.parametrize(
    "code",
    [
        "signal.raise_signal(signal.SIGINT)\nraise AssertionError",
        """
        try:  # as numpy does in its import of C code
            signal.raise_signal(signal.SIGINT)
        except BaseException as error:
            raise ImportError("bad installation") from error
        """,
        """
        from pipeline.core import stage
        def command():
            try:
                signal.raise_signal(signal.SIGINT)
            except BaseException as error:
                raise ImportError("bad installation") from error
        stage.exit_on_failure(command)
        """,
    ],
    ids=["an import", "an import that hides it", "a command's import that hides it"],
)
def test_ctrl_c_in_an_import_ends_without_a_traceback(code: str) -> None:
    result = end_as_program(code)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_ctrl_c_that_the_shell_ignores_is_ignored() -> None:
    """As in a background job of a script."""
    code = "signal.raise_signal(signal.SIGINT); print('went on')"
    program = f"import sys; sys.argv = ['pipeline']; import pipeline, signal; {code}"
    result = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "went on\n")


@pytest.mark.parametrize(
    "code",
    [
        "raise MemoryError",
        "raise ImportError('libtorch.so: failed to map segment from shared object')",
        'raise RuntimeError("can\'t start new thread")',
        "from pipeline.core import stage\nstage.exit_on_failure(lambda: bytearray(2**62))",
        """
        resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))
        signal.raise_signal(signal.SIGINT)  # as OpenBLAS does that can start no thread
        """,
    ],
)
def test_too_little_memory_is_one_sentence_with_the_limit(code: str) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_DATA, (2**28, 2**28))\n"
    result = end_as_program(limit + textwrap.dedent(code))
    assert result.returncode == 1
    assert result.stderr.startswith("error: this process has too little memory: `ulimit -")
    assert "`ulimit -d` allows 0.3 GB" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_other_errors_of_an_import_keep_their_traceback() -> None:
    result = end_as_program("raise ImportError('bug')")
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback")


def test_a_low_limit_is_a_warning_of_a_stage() -> None:
    """Before a library ends the process by a crash, which says nothing."""
    python = [sys.executable, "-m", "pipeline.stages.split", "none", "none", "none", "none"]
    result = subprocess.run(
        ["sh", "-c", 'ulimit -d 500000; exec "$@"', "sh", *python],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 1
    first, second = result.stderr.splitlines()
    assert first.startswith("warning: `ulimit -d` allows 0.5 GB, and stages that use a network")
    assert second.startswith("error: ")
