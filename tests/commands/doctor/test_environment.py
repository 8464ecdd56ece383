"""The environment: Python, packages, graphics card, disks."""

import importlib.metadata
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline.commands.doctor import environment
from pipeline.experiments import locked_packages
from tests import ROOT

Usage = namedtuple("Usage", "total used free")


def lines_of(findings: object) -> list[str]:
    return [finding.line() for finding in findings]  # type: ignore[attr-defined]


@pytest.mark.parametrize("version", [(3, 10), (3, 15)])
def test_a_python_without_wheels_is_reported(version: tuple[int, int]) -> None:
    (line,) = lines_of(environment.examine_python(version))
    assert line.startswith(f"wrong: this is Python 3.{version[1]}, and the packages are for 3.11")


def test_this_python_and_its_packages_are_right() -> None:
    assert lines_of(environment.examine_python(sys.version_info[:2])) == []
    assert lines_of(environment.examine_packages((ROOT / "requirements.lock").read_text())) == []


def test_packages_of_other_versions_are_reported() -> None:
    numpy = importlib.metadata.version("numpy")
    locked = (
        "# a comment\nnumpy==1.0 \\\n    --hash=sha256:aa\nno-such-package==1.0 \\\n"
        "also-none==1 ; python_version < '3.0' \\\n"
    )
    assert lines_of(environment.examine_packages(locked)) == [
        "wrong: other packages than in requirements.lock are installed (no-such-package is missing,"
        f" numpy {numpy} instead of 1.0): `make env` installs what requirements.lock has"
    ]


def test_the_cpu_build_of_torch_needs_neither_its_suffix_nor_cuda(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def version(name: str) -> str:
        if name != "torch":
            raise importlib.metadata.PackageNotFoundError
        return "2.14.1+cpu"

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(locked_packages, "_is_cpu_build", lambda: True)
    locked = "nvidia-cublas==13.1 \\\ntriton==3.8.0 \\\ntorch==2.14.1 \\\n"
    assert lines_of(environment.examine_packages(locked)) == []


def test_a_card_that_torch_cannot_use_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert lines_of(environment.examine_gpu(has_driver=False)) == []
    (line,) = lines_of(environment.examine_gpu(has_driver=True))
    assert "PyTorch's CPU build is installed: `make clean && make env TORCH=default`" in line
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    (line,) = lines_of(environment.examine_gpu(has_driver=True))
    assert "PyTorch, built for CUDA 13.0, cannot use the NVIDIA card: `nvidia-smi` says" in line


def test_a_full_disk_is_reported_once(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (world / "cache").mkdir()
    assert lines_of(environment.examine_disks(Path("cache"))) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(9e9, 8e9, 1e9))
    (line,) = lines_of(environment.examine_disks(Path("cache")))
    assert "has only 1.0 GB left: make room" in line
