"""The Python with which the tests of the whole pipeline run its stages."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.builders.warm_python import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server(["colorsys", "pipeline.core.errors"])
    yield server
    server.end()


def run(server: Server, *words: str, **options: object) -> "subprocess.CompletedProcess[str]":
    command = [str(server.client), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def test_it_has_the_packages_but_no_module_of_the_pipeline(server: Server) -> None:
    code = "import sys; print('colorsys' in sys.modules, 'pipeline' in sys.modules)"
    assert run(server, "-c", code).stdout == "True False\n"


def test_it_sees_what_python_would_see(server: Server, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import os, sys\n"
        "print(__name__, sys.argv[1:], sys.path[0], os.getcwd(), os.environ.get('COLOUR'))\n"
        "print(sys.stdin.read(), file=sys.stderr)\n"
        "print(os.getppid())\n"
    )
    environment = {"COLOUR": "red"}
    words = ("-m", "program", "a b")
    result = run(server, *words, cwd=tmp_path, env=environment, input="hello")
    assert result.stdout.splitlines() == [
        f"__main__ ['a b'] {tmp_path} {tmp_path} red",
        str(os.getpid()),
    ]
    assert result.stderr == "hello\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", 0),
        ("raise SystemExit", 0),
        ("raise SystemExit(130)", 130),
        ("raise SystemExit('a sentence')", 1),
        ("1 / 0", 1),
        ("import os; os._exit(7)", 7),
        ("import os; os.kill(os.getpid(), 11)", -signal.SIGSEGV),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
    ],
)
def test_it_ends_as_the_program_does(server: Server, code: str, expected: int) -> None:
    assert run(server, "-c", code).returncode == expected


def test_files_that_were_passed_are_open_by_the_same_numbers(server: Server) -> None:
    read, write = os.pipe()
    code = f"import os; os.write({write}, b'hello')"
    run(server, "-c", code, pass_fds=[write])
    os.close(write)
    assert os.read(read, 100) == b"hello"
    assert os.read(read, 100) == b""  # nobody else has it open
    os.close(read)


def test_a_killed_client_takes_its_program_along(server: Server) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with subprocess.Popen([server.client, "-c", code], stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        program = psutil.Process(int(client.stdout.readline()))
        client.kill()
    program.wait(20)


def test_other_uses_start_the_real_python(server: Server) -> None:
    assert run(server, "-V").stdout == f"Python {sys.version.split()[0]}\n"
