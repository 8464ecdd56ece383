"""What `make env` and `make cpu-hashes` do, with a local package index in place of PyTorch's."""

import hashlib
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cpu_hashes
import install
import pytest
from packaging.specifiers import SpecifierSet

from tests import ROOT

LOCK = """\
numpy==2.4.6 \\
    --hash=sha256:aa
nvidia-cublas==13.1 ; sys_platform == 'linux' \\
    --hash=sha256:bb
torch==2.14.1 \\
    --hash=sha256:cc
torchvision==0.29.1 \\
    --hash=sha256:dd
tqdm==4.70 \\
    --hash=sha256:ee
"""
WHEELS = {
    "torch": ["torch-2.14.1+cpu-cp311-cp311-linux_x86_64.whl", "torch-2.14.1-cp311-none-mac.whl"],
    "torchvision": [
        "torchvision-0.29.1+cpu-cp311-cp311-linux_x86_64.whl",
        "torchvision-0.29.1+cpu-cp312-cp312-linux_x86_64.whl",
        "torchvision-0.29.10+cpu-cp312-cp312-linux_x86_64.whl",
    ],
}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """A PEP 503 index, as PyTorch's: names are escaped, digests are fragments."""
    for name, wheels in WHEELS.items():
        (tmp_path / name).mkdir()
        links = [
            f'<a href="/whl/{wheel.replace("+", "%2B")}#sha256={sha256(wheel)}">{wheel}</a><br/>'
            for wheel in wheels
        ]
        page = f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>"
        (tmp_path / name / "index.html").write_text(page)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_hashes_of_the_locked_versions_are_taken_from_the_index(index: str) -> None:
    hashes = cpu_hashes.read_index(index, LOCK)
    assert hashes == {
        "torch==2.14.1+cpu": [sha256(WHEELS["torch"][0])],
        "torchvision==0.29.1+cpu": sorted(map(sha256, WHEELS["torchvision"][:2])),
    }
    lines = cpu_hashes.render(hashes).splitlines()
    assert [line for line in lines if line[0] not in "# "] == [
        "torch==2.14.1+cpu \\",
        "torchvision==0.29.1+cpu \\",
    ]
    assert f"    --hash=sha256:{sha256(WHEELS['torch'][0])}" in lines


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("", "no wheel of torch 1.0"),
        ('<a href="torch-1.0-py3.whl">a</a>', "no sha256 of torch-1.0-py3.whl"),
        ('<a href="torch-1.0-py3.whl#md5=00">a</a>', "no sha256 of"),
    ],
)
def test_an_index_without_hashes_is_refused(page: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        cpu_hashes.hashes_of(page, "torch", "1.0")


def test_the_committed_hashes_are_of_the_locked_versions_or_none() -> None:
    locked = (ROOT / "requirements.lock").read_text()
    lines = (ROOT / install.CPU_LOCK).read_text().splitlines()
    pins = [line.split()[0] for line in lines if line and line[0] not in "# "]
    assert pins in ([], [f"{n}=={v}+cpu" for n, v in install.versions(locked).items()])


def test_an_index_that_cannot_be_reached_has_a_problem(index: str) -> None:
    assert install.find_problem(index) == ""
    assert install.find_problem("http://127.0.0.1:9/nothing") == "[Errno 111] Connection refused"
    assert install.find_problem(f"{index}/missing") == "File not found"


class Pip:
    """Notes how pip is called, in place of running it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.locked: list[str] = []

    def __call__(self, *arguments: str) -> None:
        self.calls.append(arguments)
        if arguments[-2] == "--requirement":
            self.locked.append(Path(arguments[-1]).read_text())


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pip:
    """An environment in which pip is replaced; the lock files are those of this test."""
    pip = Pip()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(install, "pip", pip)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    (tmp_path / ".ci").mkdir()
    Path(install.LOCK).write_text(LOCK)
    Path(install.CPU_LOCK).write_text("# none\n")
    return pip


def mark(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("installed-*"))


def test_the_default_build_is_the_whole_lock_file(pip: Pip, tmp_path: Path) -> None:
    (tmp_path / "installed-cpu").touch()
    install.main("default")
    assert pip.locked == [LOCK]
    assert all("--require-hashes" in call for call in pip.calls[:-1])
    assert mark(tmp_path) == ["installed-default"]


def test_the_cpu_build_leaves_cuda_out(
    pip: Pip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str
) -> None:
    monkeypatch.setattr(install, "INDEX", index)
    install.main("cpu")
    names = [line.split("==")[0] for line in pip.locked[0].splitlines() if line[0] != " "]
    assert names == ["numpy", "tqdm"]
    assert pip.calls[1] == ("--index-url", index, "torch==2.14.1+cpu", "torchvision==0.29.1+cpu")
    assert mark(tmp_path) == ["installed-cpu"]


def test_the_cpu_build_is_installed_by_hashes_once_there_are_any(
    pip: Pip, monkeypatch: pytest.MonkeyPatch, index: str
) -> None:
    monkeypatch.setattr(install, "INDEX", index)
    hashed = cpu_hashes.render(cpu_hashes.read_index(index, LOCK))
    Path(install.CPU_LOCK).write_text(hashed)
    install.main("cpu")
    assert pip.locked[1] == hashed
    assert pip.calls[1][:3] == ("--require-hashes", "--index-url", index)


def test_without_the_index_the_default_build_is_installed_with_a_message(
    pip: Pip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "INDEX", "http://127.0.0.1:9")
    install.main("cpu")
    assert "cannot be reached ([Errno 111] Connection refused), so PyTorch's default build is" in (
        capsys.readouterr().out
    )
    install.main("cpu")  # when the lock file has changed
    assert pip.locked == [LOCK, LOCK]
    assert mark(tmp_path) == ["installed-cpu", "installed-default"]


def fake_python(folder: Path, name: str, code: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\nexit {code}\n")
    (folder / name).chmod(0o755)


def make(*words: str, path: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": path, "HOME": os.environ["HOME"]}
    return subprocess.run(
        ["make", *words], cwd=cwd, env=environment, capture_output=True, text=True
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the Makefile and what an environment depends on."""
    for name in ("Makefile", "requirements.lock", ".ci/torch-cpu.lock", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    return tmp_path


def test_make_takes_the_newest_python_that_can_make_an_environment(tmp_path: Path) -> None:
    for name, code in (("python3.14", 127), ("python3.13", 0), ("python3.12", 0)):
        fake_python(tmp_path / "bin", name, code)
    result = make("-n", "env", "TORCH=other", path=f"{tmp_path}/bin:/usr/bin:/bin")
    assert "python3.13 -m venv --clear .venv" in result.stdout


def test_make_does_not_take_the_python_of_an_environment_that_it_replaces(project: Path) -> None:
    fake_python(project / ".venv/bin", "python3.14", 0)
    fake_python(project / "bin", "python3.13", 0)
    path = f"{project}/.venv/bin:{project}/bin:/usr/bin:/bin"
    result = make("-n", "env", "TORCH=other", path=path, cwd=project)
    assert f"PATH='{project}/bin:/usr/bin:/bin' python3.13 -m venv --clear .venv" in result.stdout


@pytest.mark.parametrize("words", [(), ("TORCH=cpu",), ("TORCH=default",)])
def test_a_build_in_place_of_another_is_not_installed_again(
    project: Path, words: tuple[str, ...]
) -> None:
    for build in ("default", "cpu"):  # as install.py leaves them
        (project / f".venv/installed-{build}").touch()
    result = make("env", *words, path="/usr/bin:/bin", cwd=project)
    assert result.returncode == 0, result.stderr
    assert "venv --clear" not in result.stdout
    assert ".ci/install.py" not in result.stdout
    is_named = ".venv has PyTorch's default build: the index of its CPU build" in result.stdout
    assert is_named == ("TORCH=cpu" in words)


def test_make_says_that_there_is_no_python(tmp_path: Path) -> None:
    for minor in range(11, 15):
        fake_python(tmp_path / "bin", f"python3.{minor}", 1)
    result = make("-n", "env", "TORCH=other", path=f"{tmp_path}/bin:/usr/bin:/bin")
    assert "no Python 3.11 to 3.14 with the module ensurepip: install one" in result.stderr
    assert result.returncode == 2


def test_make_alone_lists_every_target() -> None:
    result = make(path=os.environ["PATH"])
    assert "repro         run the pipeline: data, model, evaluation" in result.stdout
    listed = [line.split()[0] for line in result.stdout.splitlines()]
    assert len(listed) > 10
    assert all(f"\n{name}:" in f"\n{(ROOT / 'Makefile').read_text()}" for name in listed)
    assert {"repro", "test", "ui", "env"} < set(listed)


def test_the_makefile_uses_no_tab_escapes_in_sed() -> None:
    """BSD's sed, on macOS, prints the letter t for `\\t` in a replacement."""
    assert not re.search(r"\bsed\b.*\\t", (ROOT / "Makefile").read_text())


def test_the_pythons_of_the_makefile_are_those_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    allowed = SpecifierSet(project.split('requires-python = "')[1].split('"')[0])
    assert [minor for minor in range(8, 20) if f"3.{minor}.1" in allowed] == [11, 12, 13, 14]
    assert "for minor in 14 13 12 11;" in (ROOT / "Makefile").read_text()
