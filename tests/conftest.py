"""Shared fixtures; the slow ones are built once per session and copied."""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import shutil
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from hypothesis import settings

from tests import ROOT
from tests.slow import SLOW

RARE_GC = 50_000  # new objects until garbage is searched: with Python's 700, 4 % of the time

# Fixtures import torch and MLflow themselves: a few tests without them start in a second.
if TYPE_CHECKING:
    from pipeline.params import Params
    from pipeline.stages.evaluate.metrics import Figures
    from tests.builders.repositories import CommitResult
    from tests.project import Project


def pytest_configure() -> None:
    """One thread for torch, as several test processes share the cores, and no deadlines.

    Where a test has two, the one that waits sleeps, and MLflow reports nothing, as in
    `pipeline.core.program`.

    The garbage collector waits until all is imported: imports create no garbage, and searching for
    it takes a quarter of the time of collecting the tests.
    """
    gc.disable()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # both are read when torch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Otherwise each of a thousand child processes compiles the modules that it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # How long an example takes depends on the machine's other work.
    settings.register_profile("no deadline", deadline=None)
    settings.load_profile("no deadline")
    # Shells ignore Ctrl-C in background jobs, and child processes inherit that.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Freeze the objects of imports: searching them takes half a second per gc.collect().

    Garbage among them is little, and searching for it now takes a second in each process.
    """
    gc.freeze()
    gc.set_threshold(RARE_GC)
    gc.enable()


@cache  # thousands of tests have their file's
def _name(path: Path) -> str:
    """The name of a test file in tests/slow.py."""
    return path.relative_to(ROOT / "tests").with_suffix("").as_posix()


def _is_slow(path: Path) -> bool:
    return _name(path).startswith("system/") or _name(path) in SLOW


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import the slow files for `make test-fast`."""
    is_inside = collection_path.is_relative_to(ROOT / "tests")
    leaves_out = config.option.markexpr == "not slow" and is_inside and _is_slow(collection_path)
    return True if leaves_out else None  # None: as pytest would do


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files in the order of tests/slow.py."""
    places = {name: place for place, name in enumerate(SLOW)}
    for item in items:
        if _is_slow(item.path):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: places.get(_name(item.path), len(places)))


@pytest.fixture(scope="session", autouse=True)
def _unshared() -> Iterator[None]:
    """Results of tests stay on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PIPELINE_CACHE", "PIPELINE_CLUSTER"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _unsynced() -> Iterator[None]:
    """Do not wait for the disk; tests of syncing replace this."""
    connect = sqlite3.dbapi2.connect

    def connect_unsynced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        with suppress(sqlite3.Error):  # of a damaged file: the first query raises it too
            connection.execute("PRAGMA synchronous=OFF")
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        for module in (sqlite3, sqlite3.dbapi2):  # of DVC, of MLflow
            patch.setattr(module, "connect", connect_unsynced)
        yield


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder, which is the working directory and contains .cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of .cache; requests to the servers of tests use no proxy."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path


def build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """A folder that one test process builds and all share. Copy it before use."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(shared / f"{name}.lock"):
        if not (shared / f"{name}.ready").exists():
            shutil.rmtree(shared / name, ignore_errors=True)  # of a failed build
            (shared / name).mkdir()
            build(shared / name)
            (shared / f"{name}.ready").touch()
    return shared / name


@pytest.fixture(scope="session")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which nothing has run. Copy it before use."""
    from tests.project import Project

    def build(folder: Path) -> None:
        Project(folder)

    return Project.at(build_once(tmp_path_factory, "new-project", build))


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory, new_project: Project) -> Project:
    """A project whose pipeline has run once, and whose result is committed. Copy it before use.

    It ran with secrets in its environment, which tests/system/test_secrets.py looks for.
    """
    from tests.builders import canaries
    from tests.project import STAGES, Project, ran

    def build(folder: Path) -> None:
        project = new_project.copied(folder)
        result = project.dvc("repro", **canaries.ENVIRONMENT)
        (folder / ".dvc/tmp/first-run.log").write_text(result.stdout)
        assert result.returncode == 0, result.stdout
        assert set(ran(result.stdout)) == set(STAGES)
        project.git("add", "-A")
        project.git("commit", "-q", "-m", "first run")

    return Project.at(build_once(tmp_path_factory, "first-run", build))


@pytest.fixture(scope="session")
def first_experiment(tmp_path_factory: pytest.TempPathFactory, first_run: Project) -> Project:
    """`first_run` with an experiment, `faster`, run in a temporary folder. Copy it before use."""
    from tests.project import Project, ran

    def build(folder: Path) -> None:
        project = first_run.copied(folder)
        result = project.dvc("exp", "run", "--temp", "-n", "faster", "-S", "train.lr=0.003")
        assert result.returncode == 0, result.stdout
        assert ran(result.stdout) == ["train", "evaluate"]  # the features of the commit are reused

    return Project.at(build_once(tmp_path_factory, "first-experiment", build))


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The packages that have each module; Python reads the files of all packages for it."""

    def build(folder: Path) -> None:
        packages = importlib.metadata.packages_distributions()
        (folder / "distributions.json").write_text(json.dumps(packages))

    folder = build_once(tmp_path_factory, "distributions", build)
    packages: dict[str, list[str]] = json.loads((folder / "distributions.json").read_text())
    return packages


@pytest.fixture(scope="session")
def params() -> Params:
    """The shipped params.yaml, made small: mobilenet_v2 with 32 pixels, for three epochs.

    The frozen part runs in full precision, so that it equals the whole network.
    """
    from pipeline.params import load_params
    from tests.builders.params import small_params

    return small_params(load_params(ROOT / "params.yaml"))


@pytest.fixture
def torch_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute features by torch: OpenVINO takes half a second to compile a network."""
    from pipeline.network import openvino_engine

    monkeypatch.setattr(openvino_engine, "name", lambda: None)


@pytest.fixture
def warm_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that decode images start with their packages imported: no test of processes."""
    from tests.builders import warm_workers

    warm_workers.use(monkeypatch)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an mlflow.db that has no runs."""
    from tests.builders.stores import make_store

    return build_once(tmp_path_factory, "empty-store", make_store)


@pytest.fixture
def mlflow_db(world: Path, empty_store: Path) -> None:
    """An mlflow.db without runs in the working directory."""
    from tests.builders.stores import copy_store

    copy_store(empty_store, world)


@pytest.fixture(scope="session")
def striped_data(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Path:
    """A folder with data/raw, data/clean and data/split.csv of 24 plain and 24 striped images."""

    def build(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("DVC_ROOT", str(folder))
            _write_data(folder / "data", params)

    return build_once(tmp_path_factory, "striped-data", build)


def _write_data(data: Path, params: Params) -> None:
    import numpy as np

    from pipeline.core import shards
    from pipeline.core.split_csv import write_split
    from pipeline.stages.acquire.raw_image import RawImage
    from pipeline.stages.filter import verdicts
    from pipeline.stages.split.assignment import images as split
    from pipeline.stages.split.assignment import modes
    from pipeline.stages.split.class_checks import check_classes
    from tests.builders.images import encode_png

    random = np.random.default_rng(0)
    images = []
    for number in range(48):
        label, period = ("striped", 4) if number % 2 else ("plain", 1000)
        stripes = 127 + 100 * (np.arange(48) // period % 2)
        noisy = stripes[None, :, None] + random.normal(0, 20, (40, 48, 3))
        png = encode_png(np.clip(noisy, 0, 255).astype(np.uint8))
        images.append(RawImage(f"{label}/{number}.png", label, png).row())
    shards.write(data / "raw", shards.RAW, images)
    judged = verdicts.judge_images(data / "raw", {}, params.filter)
    clean_batches = (batch.select(shards.CLEAN.names) for batch in judged.batches())
    shards.write_batches(data / "clean", shards.CLEAN, clean_batches)
    clean_images, groups = split.read_images(data / "clean")
    no_splits = np.full(len(clean_images), -1, np.int8)
    splits = modes.assign(groups, clean_images, params.split, no_splits)
    check_classes(clean_images, splits, params.split)
    rows = modes.split_rows(groups, clean_images, splits, params.split.seed)
    write_split(data / "split.csv", rows)


@pytest.fixture
def dataset(world: Path, striped_data: Path, mlflow_db: None) -> Path:
    """data/ in the working directory: 24 plain and 24 striped images, split; no runs in MLflow."""
    shutil.copytree(striped_data / "data", world / "data")
    return world / "data"


@pytest.fixture(scope="session")
def striped_model(
    tmp_path_factory: pytest.TempPathFactory, striped_data: Path, params: Params
) -> Path:
    """A folder with models/ that recognise stripes."""
    from pipeline.network import model_folder
    from tests.builders.models import train_job
    from tests.builders.params import NARROW_RESNET, override

    def build(folder: Path) -> None:
        shutil.copytree(striped_data / "data", folder / "data")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("DVC_ROOT", str(folder))
            long = override(params, **NARROW_RESNET, train__epochs=30, train__lr=0.02)
            job, card, _ = train_job(folder / "data", long)
            model_folder.save(folder / "models", job.network, card)

    return build_once(tmp_path_factory, "striped-model", build)


@pytest.fixture
def models(dataset: Path, striped_model: Path) -> Path:
    """The folder of a model that recognises stripes."""
    shutil.copytree(striped_model / "models", "models")
    return Path("models")


@pytest.fixture(scope="session")
def evaluated_model(
    tmp_path_factory: pytest.TempPathFactory, striped_data: Path, empty_store: Path, params: Params
) -> Path:
    """A folder in which train and evaluate have run over plain and striped images."""
    from tests.builders.models import compute_features
    from tests.builders.params import override
    from tests.builders.stages import evaluate_stage, train_stage, write_params
    from tests.builders.stores import copy_store

    def build(folder: Path) -> None:
        shutil.copytree(striped_data / "data", folder / "data")
        copy_store(empty_store, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("DVC_ROOT", str(folder))
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # mlflow sets it, in another test
            write_params(override(params, train__lr=0.003))
            compute_features(folder / "data", override(params, train__lr=0.003))
            train_stage()
            evaluate_stage()

    return build_once(tmp_path_factory, "evaluated-model", build)


@pytest.fixture
def figures(world: Path, evaluated_model: Path) -> Figures:
    """The metrics of a model of stripes; its data, reports and run are in the working directory."""
    from tests.builders.stores import copy_store

    shutil.copytree(evaluated_model, world, dirs_exist_ok=True)
    copy_store(evaluated_model, world)
    figures: Figures = json.loads(Path("reports/metrics.json").read_text())
    return figures


@pytest.fixture
def commit(world: Path, params: Params, mlflow_db: None) -> CommitResult:
    """A function that commits results to a repository in the working directory."""
    from tests.builders.repositories import start_repository

    return start_repository(world, params)
