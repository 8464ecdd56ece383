import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from tests import ROOT
from tests.builders.repositories import commit_all

GOOD = b"schema: '2.0'\nstages:\n  a:\n    cmd: x\n"


@pytest.fixture
def project(world: Path) -> Path:
    (world / ".dvc").mkdir()
    (world / ".dvc/config").write_text("")
    (world / ".gitignore").write_text(".cache/\n.dvc/tmp\n")
    (world / "dvc.lock").write_bytes(GOOD)
    commit_all("first")
    return world


def doctor(*options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["doctor", *options])
    return result.exit_code, result.output


def test_a_cut_lock_is_put_back_whatever_the_options(project: Path) -> None:
    assert doctor("--lock") == (0, "")
    for number, options in enumerate(([], ["--lock"], ["--repair"]), start=1):
        (project / "dvc.lock").write_bytes(GOOD[:30])
        exit_code, output = doctor(*options)
        assert exit_code == 0, "nothing is left to do"
        assert f"it is kept as dvc.lock.broken-{number}" in output
        assert (project / "dvc.lock").read_bytes() == GOOD


def test_what_is_left_to_do_is_an_exit_code(project: Path) -> None:
    (project / ".dvc/tmp").mkdir(exist_ok=True)
    (project / ".dvc/tmp/rwlock").write_text("")
    exit_code, output = doctor()
    assert exit_code == 1
    assert output.splitlines()[-1] == "doctor: 1 wrong"
    exit_code, output = doctor("--repair")
    assert exit_code == 0
    assert output.splitlines()[-1] == "doctor: nothing wrong, 1 fixed"


def test_the_guard_imports_neither_dvc_nor_torch_nor_mlflow(project: Path) -> None:
    """It runs before every `make repro`."""
    code = (
        "import sys; from pipeline.experiments.last_good_lock import mend; mend(); mend()\n"
        "print({'dvc', 'torch', 'mlflow', 'pydantic'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, text=True) == "set()\n"


def test_make_repro_looks_at_the_lock_first() -> None:
    lines = subprocess.check_output(
        ["make", "-n", "--no-print-directory", "repro"], cwd=ROOT, text=True
    ).splitlines()
    commands = [line.split("#")[0].strip() for line in lines]
    assert commands[-2:] == ["pipeline doctor --lock", "dvc repro"]


def test_it_is_refused_outside_the_project(
    world: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    result = CliRunner().invoke(app, ["doctor"])
    assert "this is not the project's folder" in str(result.exception)
