"""Whole trainings in several processes: by torchrun, and on machines with a folder of their own."""

import json
import os
import shutil
import socket
import sys
import time
from dataclasses import astuple
from pathlib import Path

import psutil
import pytest
from torch.distributed import run as torchrun

from pipeline.core import history, stage
from pipeline.params import Params
from pipeline.stages.train import __main__ as train
from tests import ROOT
from tests.builders import warm_python
from tests.builders.forks import Fork
from tests.builders.models import compute_features, train_job
from tests.builders.params import NARROW_RESNET, override
from tests.builders.train_stage import NOWHERE, OF_TORCH, WORDS, epoch_saved, read_outs

ADDRESS = "127.0.0.1"
STATE = ".cache/train/*/state.safetensors"
MAX_DIFFERENCE = 1e-4  # between the histories of one process and of two, as in docs/training.md


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind((ADDRESS, 0))
        return str(listener.getsockname()[1])


def write_params(folder: Path, params: Params) -> None:
    (folder / "params.yaml").write_text(json.dumps(params.model_dump()))


@pytest.fixture
def folders(dataset: Path, params: Params) -> list[Path]:
    """Those of two machines. The second has features and params, but neither images nor tables."""
    changed = override(
        params,
        **NARROW_RESNET,
        head__kind="mlp",  # with dropout, whose random states differ between processes
        train__epochs=30,
        train__schedule="cosine",
        device__nodes=2,
    )
    compute_features(dataset, changed)
    second = dataset.parent / "second"
    shutil.copytree(dataset / "features", second / "data/features")
    for folder in (dataset.parent, second):
        write_params(folder, changed)
    return [dataset.parent, second]


def start_torchrun(folder: Path, processes: int, *nodes: str) -> Fork:
    """torchrun in a child of this process; the training runs in its children."""

    def main() -> None:
        os.chdir(folder)
        torchrun.main()

    words = ["--nproc-per-node", str(processes), *nodes, "-m", "pipeline.stages.train", *WORDS]
    python = {"PYTHONPATH": str(ROOT), "PYTHON_EXEC": str(warm_python.executable())}
    environment = NOWHERE | python | {"DVC_ROOT": str(folder)}
    return Fork(main, ["torchrun", *words], folder / "output.txt", **environment)


def start_nodes(folders: list[Path]) -> list[Fork]:
    port = free_port()
    where = ["--nnodes", "2", "--master-addr", ADDRESS, "--master-port", port]
    return [
        start_torchrun(folder, 1, *where, "--node-rank", str(number))
        for number, folder in enumerate(folders)
    ]


@OF_TORCH
def test_two_machines_one_of_which_is_killed_end_with_the_bytes_of_two_processes_on_one(
    folders: list[Path], params: Params
) -> None:
    first, second = folders
    nodes = start_nodes(folders)
    while max(map(epoch_saved, first.glob(STATE)), default=0) < 3:
        nodes[0].check()
        time.sleep(0.01)
    (worker,) = psutil.Process(nodes[1].process.pid).children()
    worker.kill()
    assert [node.wait() for node in nodes] == [1, 1]
    assert "error: another process of this training ended" in nodes[0].output.read_text()
    (state,) = first.glob(STATE)
    assert 3 <= epoch_saved(state) < 30
    assert not (first / "models").exists()

    outputs = [node.finish() for node in start_nodes(folders)]
    assert "train: continues a killed run of the same params" in outputs[0]
    on_two_machines = read_outs()
    assert outputs[1] == ""
    assert not list(first.glob(STATE))
    assert {path.name for path in second.iterdir()} == {
        ".cache",
        "data",
        "output.txt",
        "params.yaml",
    }
    # What modules import and an empty folder, but no checkpoint, and no run of MLflow.
    assert {path.name for path in (second / ".cache").iterdir()} == {"imports", "staging"}
    assert not list((second / ".cache/staging").iterdir())

    for name in on_two_machines:
        Path(name).unlink()
    on_one = json.loads(Path("params.yaml").read_text())
    on_one["device"] |= {"devices": 2, "nodes": 1}
    Path("params.yaml").write_text(json.dumps(on_one))
    start_torchrun(first, 2).finish()
    assert read_outs() == on_two_machines


# ---- without torchrun: a process on each machine that knows its number ----


def start_stage(folder: Path, **environment: str) -> Fork:
    def main() -> None:
        os.chdir(folder)
        sys.modules["__main__"] = train
        stage.run(train.main)

    environment = NOWHERE | {"DVC_ROOT": str(folder)} | environment
    return Fork(main, [str(train.__file__), *WORDS], folder / "output.txt", **environment)


def start_stages(folders: list[Path]) -> list[Fork]:
    place = {"MASTER_ADDR": ADDRESS, "MASTER_PORT": free_port()}
    return [
        start_stage(folder, NODE_RANK=str(number), **place) for number, folder in enumerate(folders)
    ]


@OF_TORCH
def test_two_machines_train_as_one_process_does(folders: list[Path], params: Params) -> None:
    linear = override(params, **NARROW_RESNET, train__epochs=4, train__lr=0.02)
    for folder in folders:
        write_params(folder, override(linear, device__nodes=2))
    _, _, alone = train_job(folders[0] / "data", linear)
    first, second = [node.finish() for node in start_stages(folders)]
    assert "train: best epoch " in first
    assert second == ""
    together = history.read(Path("reports/history.csv"))
    assert len(alone) == len(together) == 4
    for record, other in zip(alone, together, strict=True):
        assert astuple(other) == pytest.approx(astuple(record), abs=MAX_DIFFERENCE)


@OF_TORCH
def test_a_machine_with_other_params_is_refused_on_all(folders: list[Path], params: Params) -> None:
    values = json.loads((folders[1] / "params.yaml").read_text())
    values["train"]["lr"] = 0.5
    (folders[1] / "params.yaml").write_text(json.dumps(values))
    place = {"MASTER_ADDR": ADDRESS, "MASTER_PORT": free_port()}
    nodes = [
        start_stage(folder, NODE_RANK=str(number), **place) for number, folder in enumerate(folders)
    ]
    assert [node.wait() for node in nodes] == [1, 1]
    host = os.uname().nodename
    for node in nodes:
        assert node.output.read_text() == (
            f"error: the processes of this training differ in train.lr: {params.train.lr} in "
            f"process 0 on {host}, 0.5 in process 1 on {host}; all need the same commit, "
            "params.yaml, environment, data/features and type of hardware\n"
        )
    assert not Path("models").exists()


def test_a_port_that_is_taken_is_named(folders: list[Path]) -> None:
    with socket.socket() as listener:
        listener.bind((ADDRESS, 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        node = start_stage(folders[0], NODE_RANK="0", MASTER_ADDR=ADDRESS, MASTER_PORT=port)
        assert node.wait() == 1
    assert node.output.read_text().startswith(
        "error: the processes that train together do not reach one another at "
        f"{ADDRESS}:{port} (MASTER_ADDR, MASTER_PORT): "
    )
