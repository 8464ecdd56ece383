import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import PipelineError
from pipeline.core.shards import writer
from pipeline.images import mapping
from pipeline.stages.filter import __main__ as filtering
from pipeline.stages.filter import part
from tests import ROOT
from tests.builders.filter_project import write_filter_project
from tests.builders.s3 import BUCKET, serve_s3, use_s3

MAX_WAIT = 60  # seconds for a part to publish something
Outputs = dict[str, bytes]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with serve_s3() as address:
        yield address


@pytest.fixture(params=["folder", "s3"])
def cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a shared cache."""
    if request.param == "s3":
        use_s3(monkeypatch, request.getfixturevalue("s3"))
        return f"s3://{BUCKET}/{tmp_path.name}"
    (tmp_path / "shared").mkdir()
    return str(tmp_path / "shared")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with 24 images in eight shards, two of them damaged, and two copies."""
    monkeypatch.setattr(writer, "ROWS", 3)
    monkeypatch.setattr(part, "AT_ONCE", 1)
    write_filter_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def on_machine(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outputs]:
    """Run the stage on the machine of some name, which has a memo of its own."""

    def run(name: str, **options: str) -> Outputs:
        monkeypatch.setenv("DVC_ROOT", str(project / name))
        clean, verdicts_csv = Path(name, "clean"), Path(name, "verdicts.csv")
        filtering.main(Path("dataset"), Path("raw"), clean, verdicts_csv, **options)
        files = [path for path in Path(name).rglob("*") if path.is_file()]
        return {
            path.relative_to(name).as_posix(): path.read_bytes()
            for path in files
            if ".cache" not in path.parts
        }

    return run


def judge_none(_: object, chunks: Sequence[object], *__: object) -> Iterator[Any]:
    """Takes the place of the workers."""
    assert not chunks, "an image was judged again"
    return iter([])


def test_the_stage_finds_what_parts_judged_on_other_machines(
    on_machine: Callable[..., Outputs],
    cache: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    alone = on_machine("alone")
    monkeypatch.setenv("PIPELINE_CACHE", cache)
    capsys.readouterr()
    for number in (1, 2, 3):
        assert on_machine(f"machine {number}", part=f"{number}/3") == {}
    assert capsys.readouterr().out.splitlines() == [
        "filter: judged part 1 of 3, 3 shards",
        "filter: judged part 2 of 3, 3 shards",
        "filter: judged part 3 of 3, 2 shards",
    ]
    monkeypatch.setattr(mapping, "run_isolated", judge_none)
    assert on_machine("driver") == alone


def test_the_stage_itself_shares_what_it_judges(
    on_machine: Callable[..., Outputs], cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_CACHE", cache)
    first = on_machine("first")
    monkeypatch.setattr(mapping, "run_isolated", judge_none)
    assert on_machine("second") == first


def test_parts_without_a_shared_cache_fill_the_memo(
    on_machine: Callable[..., Outputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = on_machine("alone")
    assert on_machine("machine", part="2/2") == {}
    assert on_machine("machine", part="1/2") == {}
    monkeypatch.setattr(mapping, "run_isolated", judge_none)
    assert on_machine("machine") == alone


def test_a_machine_with_other_params_is_refused(
    project: Path, on_machine: Callable[..., Outputs], capsys: pytest.CaptureFixture[str]
) -> None:
    key = part.key_of([])
    on_machine("first", part="1/2", key=key)
    params = json.loads(Path("params.yaml").read_text())
    params["filter"]["min_side"] += 1
    Path("params.yaml").write_text(json.dumps(params))
    with pytest.raises(
        PipelineError, match=f"--key={key} is not the key of this machine's results"
    ):
        on_machine("second", part="1/2", key=key)


def test_a_killed_part_leaves_what_it_has_judged(
    project: Path,
    on_machine: Callable[..., Outputs],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    alone = on_machine("alone")
    shared = tmp_path / "cache of all"
    shared.mkdir()
    monkeypatch.setenv("PIPELINE_CACHE", str(shared))
    command = "import runpy, pipeline.stages.filter.part as part; part.AT_ONCE = 1; "
    command += "runpy.run_module('pipeline.stages.filter', run_name='__main__')"
    arguments = ["dataset", "raw", "unused", "unused.csv", "--part", "1/1"]
    with subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        env=os.environ | {"DVC_ROOT": str(project / "killed"), "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    ) as process:
        end = time.monotonic() + MAX_WAIT
        while not list(shared.rglob("*.results")) and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
    assert not Path("unused").exists()
    assert on_machine("machine", part="1/1") == {}
    monkeypatch.setattr(mapping, "run_isolated", judge_none)
    assert on_machine("driver") == alone
