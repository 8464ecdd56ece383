"""Worlds that several tests start from."""

import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from filelock import FileLock

from pipeline.core import atomic, shards
from pipeline.network import model_folder
from pipeline.params import Params, load_params, with_overrides
from pipeline.stages.acquire.raw_image import RawImage
from pipeline.stages.filter import verdicts
from pipeline.stages.split import __main__ as split_split
from pipeline.stages.split import assignment
from pipeline.stages.split import images as split
from tests.imports import ROOT
from tests.project import Project, ran


def pytest_configure() -> None:
    """One thread for torch: several test processes share the cores, and would wait for another."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported
    # A shell that starts tests in its background has Ctrl-C ignored, also by what tests start.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: one that a process begins last, it ends alone."""
    items.sort(key=lambda item: "_pipeline" not in item.path.stem)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder: the working directory, and where .cache goes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where .cache goes; no proxy of this machine stands between tests and their servers."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run once, and whose result is committed. It is to be copied.

    It takes most of a minute, so the processes that tests run in share it.
    """
    mine = tmp_path_factory.getbasetemp()
    shared = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    with FileLock(shared / "first-run.lock"):
        if not (shared / "first-run.made").exists():
            shutil.rmtree(shared / "first-run", ignore_errors=True)  # another's that failed
            _run_once(Project(shared / "first-run"))
            (shared / "first-run.made").touch()
    return Project.at(shared / "first-run")


def _run_once(made: Project) -> None:
    done = made.dvc("repro")
    assert done.returncode == 0, done.stdout
    stages = {"acquire", "filter", "split", "describe", "features", "train", "evaluate"}
    assert set(ran(done.stdout)) == stages
    made.git("add", "-A")
    made.git("commit", "-q", "-m", "first run")


@pytest.fixture
def params() -> Params:
    """The shipped params.yaml, made small: mobilenet_v2 sees 32 pixels, for three epochs.

    What is frozen computes in full precision, so that it equals the whole network's numbers.
    """
    return small(load_params(ROOT / "params.yaml"))


def small(shipped: Params, **overrides: Any) -> Params:
    """`shipped` with what makes it fast; `overrides` by dotted name win."""
    fast = {
        "images.size": 32,
        "features.views": 1,
        "features.precision": "32-true",
        "train.epochs": 3,
        "train.batch_size": 8,
        "device.accelerator": "cpu",
        "split.val": 0.25,
        "split.test": 0.25,
    }
    return with_overrides(shipped, fast | overrides)


@pytest.fixture
def dataset(world: Path, params: Params) -> Path:
    """data/clean and data/split.csv in the working directory: 24 plain and 24 striped pictures."""
    random = np.random.default_rng(0)
    pictures = []
    for number in range(48):
        label, period = ("striped", 4) if number % 2 else ("plain", 1000)
        stripes = 127 + 100 * (np.arange(48) // period % 2)
        noisy = stripes[None, :, None] + random.normal(0, 20, (40, 48, 3))
        pixels = np.clip(noisy, 0, 255).astype(np.uint8)
        _, data = cv2.imencode(".png", pixels)
        pictures.append(RawImage(f"{label}/{number}.png", label, data.tobytes()).row())
    shards.write(world / "data/raw", shards.RAW, pictures)
    judged = verdicts.verdicts(world / "data/raw", {}, params.filter)
    kept = (batch.select(shards.CLEAN.names) for batch in judged)
    shards.write_batches(world / "data/clean", shards.CLEAN, kept)
    images, groups = split.read_images(world / "data/clean")
    splits = assignment.assign(groups, images, params.split, {})
    assignment.check([image.label for image in images], splits)
    rows = assignment.lines(groups, images, splits, params.split.seed)
    atomic.write_csv(world / "data/split.csv", split_split.COLUMNS, rows)
    return world / "data"


@pytest.fixture
def models(dataset: Path, params: Params) -> Path:
    """The folder of a model that knows stripes."""
    from tests.stages.train.test_setup import fitted

    training = params.train.model_copy(update={"epochs": 30, "lr": 0.02})
    job, card, _ = fitted(dataset, params.model_copy(update={"train": training}))
    model_folder.save(Path("models"), job.network, card)
    return Path("models")
