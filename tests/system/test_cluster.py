"""Stages on a real Ray cluster: processes of this machine, each a machine with one core."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import psutil
import pytest
from ruamel.yaml import YAML

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.core.shards import writer
from pipeline.distributed import machines
from pipeline.distributed.machines import Machines
from pipeline.distributed.part_queue import PartQueue
from pipeline.images import mapping
from pipeline.network import views
from pipeline.network.evaluated_suffix import EvaluatedSuffix
from pipeline.params import Params, load_params, with_overrides
from pipeline.stages.acquire.raw_image import RawImage
from pipeline.stages.features import __main__ as features
from pipeline.stages.filter import __main__ as filtering
from pipeline.stages.split import __main__ as split
from tests import ROOT
from tests.builders import blind_machine
from tests.builders.crashing_decoder import simplejpeg as crashing_decoder
from tests.builders.filter_project import write_filter_project
from tests.builders.params import NARROW_RESNET, override
from tests.builders.photographs import draw_photograph
from tests.builders.ray_cluster import RayCluster, kill_machine
from tests.builders.real_archives import read_photographs
from tests.builders.stages import evaluate_stage, read_evaluation, train_whole_network
from tests.builders.verdicts import read_verdicts
from tests.project import Project, ran

MAX_WAIT = 60  # seconds
PATH_OF_PARTS = f"{Path(crashing_decoder.__file__).parent}{os.pathsep}{ROOT}"
Outputs = dict[str, bytes]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Its token is its own: Ray would take one that lies in the home folder."""
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder,  # short
    ):
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0" * 32)
        with RayCluster(Path(folder), {"PYTHONPATH": PATH_OF_PARTS}) as cluster:
            cluster.add_worker()
            cluster.add_worker()
            yield cluster


@pytest.fixture(autouse=True)
def few_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part takes a second to start."""
    monkeypatch.setattr("pipeline.distributed.cluster.PARTS_PER_NODE", 1)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with 24 images in eight shards, some of them damaged or copies."""
    monkeypatch.setattr(writer, "ROWS", 3)
    write_filter_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def filter_stage(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Outputs]:
    """Run the stage with an empty memo."""

    def run(name: str) -> Outputs:
        shutil.rmtree(project / ".cache", ignore_errors=True)
        monkeypatch.setenv("DVC_ROOT", str(project))
        filtering.main(Path("dataset"), Path("raw"), Path(name, "clean"), Path(name, "v.csv"))
        return read_files(Path(name))

    return run


def read_files(folder: Path) -> Outputs:
    """The bytes of all files, by path."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def judge_none(_: object, chunks: Sequence[object], *__: object) -> Iterator[Any]:
    """Takes the place of the workers of this machine."""
    assert not chunks, "an image was judged again"
    return iter([])


@pytest.mark.parametrize("is_client", [False, True])
def test_a_cluster_gives_the_bytes_of_one_machine(
    filter_stage: Callable[[str], Outputs],
    cluster: RayCluster,
    monkeypatch: pytest.MonkeyPatch,
    is_client: bool,
) -> None:
    """Through a machine of the cluster, or ray:// from outside."""
    alone = filter_stage("alone")
    client = f"ray://127.0.0.1:{cluster.client_port}"
    monkeypatch.setenv("PIPELINE_CLUSTER", client if is_client else cluster.address)
    monkeypatch.setattr(mapping, "run_isolated", judge_none)
    assert filter_stage("cluster") == alone


def test_a_machine_that_does_not_see_the_project_gets_its_shards_through_the_shared_cache(
    filter_stage: Callable[[str], Outputs],
    cluster: RayCluster,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The token is what tells a worker that it sees the project."""
    alone = filter_stage("alone")
    shared = tmp_path_factory.mktemp("shared")
    monkeypatch.setenv("PIPELINE_CLUSTER", cluster.address)
    monkeypatch.setattr("pipeline.distributed.cluster._token", another_token)
    with pytest.raises(PipelineError) as caught:
        filter_stage("cluster")
    assert str(caught.value) == (
        f"no machine of the cluster can compute filter; {os.uname().nodename}: it does not see "
        f"{Path.cwd()}: put the project on a disk that all machines see, or set PIPELINE_CACHE to "
        "such a disk or to object storage"
    )
    monkeypatch.setenv("PIPELINE_CACHE", str(shared))
    monkeypatch.setattr(mapping, "run_isolated", judge_none)
    assert filter_stage("cluster") == alone
    assert len(list(shared.glob("shards/*.arrow"))) == 8


def another_token() -> Any:
    """As on a machine with another file system."""
    from contextlib import nullcontext

    return nullcontext("/missing/token")


def test_what_a_killed_machine_did_not_compute_is_computed_by_others(
    filter_stage: Callable[[str], Outputs],
    cluster: RayCluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ray starts its part again."""
    alone = filter_stage("alone")
    monkeypatch.setattr("pipeline.distributed.cluster.PARTS_PER_NODE", 2)
    daemon = cluster.add_worker()
    monkeypatch.setenv("PIPELINE_CLUSTER", cluster.address)
    monkeypatch.setattr(mapping, "run_isolated", judge_none)

    def computes_part() -> bool:
        with suppress(psutil.NoSuchProcess):  # one ended meanwhile
            commands = [process.cmdline() for process in daemon.children(recursive=True)]
            return any("pipeline.stages.filter" in command for command in commands)
        return False

    def kill() -> None:
        end = time.monotonic() + MAX_WAIT
        while not computes_part() and time.monotonic() < end:
            time.sleep(0.01)
        was_computing.append(computes_part())
        kill_machine(daemon)

    was_computing: list[bool] = []
    thread = threading.Thread(target=kill)
    thread.start()
    assert filter_stage("cluster") == alone
    thread.join()
    assert was_computing == [True]
    assert "was lost" not in capsys.readouterr().err


def test_an_image_that_crashes_the_decoder_has_the_verdict_of_one_machine(
    project: Path, cluster: RayCluster
) -> None:
    """In processes of their own, which have the faulty decoder of the cluster's."""
    images = [cv2.imencode(".jpg", draw_photograph(seed))[1].tobytes() for seed in range(6)]
    images[4] = crashing_decoder.add_crash(images[4])
    pictures = [RawImage(f"dog/{n}.jpg", "dog", data) for n, data in enumerate(images)]
    shards.write(project / "raw", shards.RAW, [picture.row() for picture in pictures])

    def run(name: str, address: str) -> Outputs:
        environment = {"DVC_ROOT": str(project / name), "PIPELINE_CLUSTER": address}
        outputs = (f"{name}/out/clean", f"{name}/out/verdicts.csv")
        ended = subprocess.run(
            [sys.executable, "-m", "pipeline.stages.filter", "dataset", "raw", *outputs],
            env=os.environ | environment | {"PYTHONPATH": PATH_OF_PARTS},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert not ended.returncode, ended.stderr
        assert (project / name / ".cache/tokens").exists() == bool(address)
        return read_files(project / name / "out")

    alone = run("alone", "")
    assert run("cluster", cluster.address) == alone
    reasons = [row.reason for row in read_verdicts(project / "cluster/out/verdicts.csv")]
    assert reasons == ["", "", "", "", "breaks_decoder", ""]


def test_dvc_lock_is_that_of_one_machine(
    first_run: Project, cluster: RayCluster, tmp_path: Path
) -> None:
    """The stages run again, with an empty memo, and DVC hashes what they write."""
    project = first_run.copied(tmp_path / "project")
    alone = (project.folder / "dvc.lock").read_bytes()
    shutil.rmtree(project.folder / ".cache")
    stages = ("filter", "features")
    again = ("repro", "--force", "--single-item")
    ended = project.dvc(*again, *stages, PIPELINE_CLUSTER=cluster.address)
    assert not ended.returncode, ended.stdout
    assert ran(ended.stdout) == list(stages)
    assert "was lost" not in ended.stdout
    assert (project.folder / ".cache/tokens").exists()
    assert (project.folder / "dvc.lock").read_bytes() == alone


def test_real_photographs_are_judged_and_computed_as_on_one_machine(
    world: Path, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few flowers, and odd files, of which some need a long time or much memory."""
    files = [*read_photographs("flowers_224.zip", 30), *read_photographs("oddities.zip", 1)]
    overrides = {"images.size": 64, "filter.max_reject_fraction": 0.5}
    small = with_overrides(load_params(ROOT / "params.yaml"), overrides)
    YAML(typ="safe", pure=True).dump(small.model_dump(), Path("params.yaml"))
    monkeypatch.setattr(writer, "ROWS", 50)
    pictures = [RawImage(name, Path(name).parts[0], data) for name, data in files]
    shards.write(Path("raw"), shards.RAW, [picture.row() for picture in pictures])

    def run() -> Outputs:
        out = Path("out")
        for folder in (".cache", out):
            shutil.rmtree(folder, ignore_errors=True)
        filtering.main(Path("dataset"), Path("raw"), out / "clean", out / "verdicts.csv")
        split.main(out / "clean", out / "verdicts.csv", out / "split.csv", out / "leaks.csv")
        features.main(out / "clean", out / "split.csv", out / "features")
        return read_files(out)

    alone = run()
    monkeypatch.setenv("PIPELINE_CLUSTER", cluster.address)
    monkeypatch.setattr(views.Views, "__getitem__", None)
    assert run() == alone


def test_a_machine_that_would_compute_other_results_gets_no_parts(
    filter_stage: Callable[[str], Outputs],
    cluster: RayCluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Others compute them."""
    alone = filter_stage("alone")
    daemon = cluster.add_worker(OPENCV_TEST="other code")
    monkeypatch.setenv("PIPELINE_CLUSTER", cluster.address)
    monkeypatch.setattr(mapping, "run_isolated", judge_none)
    assert filter_stage("cluster") == alone
    kill_machine(daemon)
    error = capsys.readouterr().err
    assert error.count(f"{os.uname().nodename} gets no more parts of filter: --key=") == 1
    assert error.count("is not the key of this machine's results") == 1


def test_a_machine_that_does_not_see_the_project_computes_features_beside_those_that_do(
    dataset: Path,
    params: Params,
    cluster: RayCluster,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """It gets split.csv of its images alone."""
    data = dataset.relative_to(Path.cwd())
    (path,) = shards.paths(data / "clean")
    monkeypatch.setattr(writer, "ROWS", 16)
    shards.write(data / "clean", shards.CLEAN, shards.read(path).to_pylist())
    small = override(params, **NARROW_RESNET)
    YAML(typ="safe", pure=True).dump(small.model_dump(), Path("params.yaml"))

    def run() -> Outputs:
        shutil.rmtree(".cache", ignore_errors=True)
        features.main(data / "clean", data / "split.csv", data / "features")
        return read_files(data / "features")

    alone = run()
    shared = tmp_path_factory.mktemp("shared")
    modules = f"{Path(blind_machine.__file__).parent}{os.pathsep}{PATH_OF_PARTS}"
    daemon = cluster.add_worker(PYTHONPATH=modules, BLIND_LOG=str(shared / "log"))
    monkeypatch.setenv("PIPELINE_CLUSTER", cluster.address)
    monkeypatch.setenv("PIPELINE_CACHE", str(shared))
    monkeypatch.setattr(views.Views, "__getitem__", None)
    assert run() == alone
    kill_machine(daemon)
    commands = (shared / "log").read_text().splitlines()
    assert commands
    assert all("--part 1/1" in command for command in commands)
    assert len(list(shared.glob("shards/*.arrow"))) < 3


def test_scores_of_a_cluster_are_those_of_one_machine(
    dataset: Path, params: Params, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a network of which nothing is frozen, so that no features are stored."""
    train_whole_network(dataset, params)

    def run() -> Outputs:
        shutil.rmtree(".cache", ignore_errors=True)
        evaluate_stage()
        return read_evaluation()

    alone = run()
    monkeypatch.setenv("PIPELINE_CLUSTER", cluster.address)
    monkeypatch.setattr(EvaluatedSuffix, "__call__", None)
    assert run() == alone


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("127.0.0.1:9", "[Errno 111] Connection refused"),
        ("ray://127.0.0.1:9", "[Errno 111] Connection refused"),
        ("head", "it is not HOST:PORT"),
        ("head:port", "it is not HOST:PORT"),
    ],
)
def test_an_address_without_a_cluster_is_one_sentence(
    filter_stage: Callable[[str], Outputs],
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    problem: str,
) -> None:
    monkeypatch.setenv("PIPELINE_CLUSTER", address)
    with pytest.raises(PipelineError) as caught:
        filter_stage("cluster")
    assert str(caught.value) == (
        f"PIPELINE_CLUSTER={address} cannot be reached ({problem}): start it with `ray start "
        "--head`, correct the address, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN if it wants a "
        "token, or unset PIPELINE_CLUSTER"
    )


def test_without_its_token_a_cluster_is_one_sentence(project: Path, cluster: RayCluster) -> None:
    """In a process of its own: Ray reads the token once."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("RAY_AUTH")}
    settings = {"HOME": str(project), "DVC_ROOT": str(project), "PYTHONPATH": str(ROOT)}
    paths = ("dataset", "raw", "out/clean", "out/verdicts.csv")
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline.stages.filter", *paths],
        env=inherited | settings | {"PIPELINE_CLUSTER": cluster.address},
        capture_output=True,
        text=True,
    )
    last = ended.stderr.splitlines()[-1]
    assert (ended.returncode, last[:7]) == (1, "error: "), ended.stderr
    assert f"PIPELINE_CLUSTER={cluster.address} cannot be reached" in last
    assert "RAY_AUTH_TOKEN" in last


def test_without_ray_it_is_said_what_to_install(
    filter_stage: Callable[[str], Outputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("PIPELINE_CLUSTER", "auto")
    with pytest.raises(PipelineError, match=r"needs Ray: pip install '.\[cluster\]', or unset"):
        filter_stage("cluster")


def test_without_its_machines_the_stage_computes_the_rest(
    filter_stage: Callable[[str], Outputs],
    cluster: RayCluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The next to last test of this cluster."""
    alone = filter_stage("alone")
    monkeypatch.setenv("PIPELINE_CLUSTER", cluster.address)
    monkeypatch.setattr(machines, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(machines, "PATIENCE_SECONDS", 2)
    monkeypatch.setattr(PartQueue, "compute", after(PartQueue.compute, cluster.kill_workers))
    assert filter_stage("cluster") == alone
    assert "seconds: this machine computes the rest of filter" in capsys.readouterr().err


def test_without_its_head_the_stage_computes_the_rest(
    filter_stage: Callable[[str], Outputs],
    cluster: RayCluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The last test of this cluster."""
    alone = filter_stage("alone")
    cluster.add_worker()
    monkeypatch.setenv("PIPELINE_CLUSTER", cluster.address)
    monkeypatch.setattr(machines, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(Machines, "check", after(Machines.check, cluster.kill_head))
    assert filter_stage("cluster") == alone
    problem = "the cluster's head is gone ([Errno 111] Connection refused)"
    error = capsys.readouterr().err
    assert f"{problem}: this machine computes the rest of filter" in error


def after(function: Callable[..., Any], first: Callable[[], None]) -> Callable[..., Any]:
    """Call `first` and then `function`."""

    def call(*arguments: Any) -> Any:
        first()
        return function(*arguments)

    return call
