"""The whole examination, on a project of two stages that real DVC has run."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.commands.doctor.examination import examine
from pipeline.core import dvc_lock
from pipeline.experiments import dvc
from tests import ROOT
from tests.builders import forks
from tests.builders.repositories import commit_all, git

STAGES = """
stages:
  make:
    cmd: python make.py
    deps: [make.py]
    outs: [data]
  count:
    cmd: python count.py
    deps: [count.py, data]
    outs: [total.txt]
"""
MAKE = """
from pathlib import Path
Path("data/sub").mkdir(parents=True)
Path("data/a.bin").write_bytes(b"a" * 10_000)
Path("data/sub/b.bin").write_bytes(b"b" * 10_000)
"""
COUNT = """
from pathlib import Path
Path("total.txt").write_text(str(sum(p.stat().st_size for p in Path("data").rglob("*.bin"))))
"""
ZEROED = b"b" * 5_000 + bytes(5_000)
A, B = Path("data/a.bin"), Path("data/sub/b.bin")


def run_dvc(*words: str) -> str:
    result = forks.run_dvc(*words)
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first-run")
    for name, text in (
        ("dvc.yaml", STAGES),
        ("make.py", MAKE),
        ("count.py", COUNT),
        ("params.yaml", (ROOT / "params.yaml").read_text()),
        (".gitignore", ".cache/\n.dvc/site\nmlflow.db\n"),
    ):
        (folder / name).write_text(text)
    git("init", "-q", "-b", "main", folder=folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_dvc("init", "-q")
        (folder / ".dvc/config").write_text((ROOT / ".dvc/config").read_text())
        run_dvc("repro")
    commit_all("first", folder)
    return folder


@pytest.fixture
def project(first_run: Path, world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the first run, in which DVC has linked its cache into the workspace again."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(world / ".dvc/site"))
    shutil.copytree(first_run, world, dirs_exist_ok=True)
    with dvc.open_repo() as repo:
        repo.checkout(relink=True, force=True)
    assert A.stat().st_nlink == 2
    return world


def doctor(capsys: pytest.CaptureFixture[str], repair: bool = False) -> tuple[bool, list[str]]:
    is_well = examine(repair)
    return is_well, capsys.readouterr().out.splitlines()


def object_of(path: Path) -> Path:
    md5 = dvc_lock.digest(path)
    return Path(".dvc/cache/files/md5", md5[:2], md5[2:])


@pytest.fixture
def link(request: pytest.FixtureRequest, project: Path) -> str:
    """How DVC puts objects of the cache into the workspace of `project`."""
    kind = str(request.param)
    Path(".dvc/config").write_text(f"[cache]\n    type = {kind}\n")
    commit_all("config")
    with dvc.open_repo() as repo:
        repo.checkout(relink=True, force=True)
    assert B.is_symlink() is (kind == "symlink")
    return kind


def damage(path: Path, data: bytes) -> None:
    """Change a file's bytes in place, as a disk does: inode, time and mode stay."""
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_nothing_is_wrong_with_a_sound_project(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(capsys) == (True, ["doctor: nothing wrong"])
    assert doctor(capsys, repair=True) == (True, ["doctor: nothing wrong"])
    assert not list(project.rglob("quarantine"))


@pytest.mark.parametrize(
    ("link", "data"),
    [("hardlink", b""), ("hardlink", ZEROED), ("symlink", ZEROED), ("copy", b"")],
    indirect=["link"],
)
def test_a_damaged_object_is_moved_away_and_made_again(
    project: Path, link: str, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    item = object_of(B)
    damage(item, data)
    is_well, lines = doctor(capsys)
    assert not is_well
    assert any(f" {item} (data/sub/b.bin) " in line for line in lines)
    assert all("`pipeline doctor --repair` moves it away" in line for line in lines[:-1])
    assert item.exists(), "a report changes nothing"

    is_well, lines = doctor(capsys, repair=True)
    assert is_well
    assert not item.exists()
    # DVC would take a link for sound, but a copy is.
    assert os.path.lexists(B) is (link == "copy")
    moved = [path for path in project.rglob("quarantine/**/*") if path.is_file()]
    assert all(path.read_bytes() == data for path in moved)
    assert len(moved) == (2 if link == "hardlink" else 1)
    assert all(any(str(path.relative_to(project)) in line for line in lines) for path in moved)

    run_dvc("repro")
    assert B.read_bytes() == b"b" * 10_000
    assert object_of(B).read_bytes() == b"b" * 10_000
    assert doctor(capsys) == (True, ["doctor: nothing wrong"])
    assert git("status", "--porcelain") == ""


def test_a_read_only_cache_is_left_as_it_is(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    item = object_of(B)
    damage(item, b"")
    Path(".dvc/cache/files/quarantine").write_text("nothing can be created in it")
    is_well, lines = doctor(capsys, repair=True)
    assert not is_well
    assert "it cannot be moved away (" in lines[0]
    assert len(lines) == 2
    assert item.exists()
    assert B.exists()


def test_deleting_the_out_is_no_help(project: Path) -> None:
    """Why the doctor is needed: DVC restores the empty object, as long as it is in the cache."""
    damage(object_of(B), b"")
    shutil.rmtree("data")
    run_dvc("repro")
    assert B.read_bytes() == b""


def test_a_copy_that_dvc_does_not_notice_is_moved_away(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of an object that somebody has deleted, or with copies in place of links."""
    B.unlink()
    B.write_bytes(b"b" * 10_000)
    A.unlink()
    A.write_bytes(b"a" * 10_000)
    with dvc.open_repo() as repo:
        assert repo.status() == {}  # DVC remembers their md5
    damage(B, b"c" * 10_000)
    A.write_bytes(b"edited")
    is_well, lines = doctor(capsys, repair=True)
    assert not is_well
    assert any(line.startswith("fixed: data/sub/b.bin has other bytes") for line in lines)
    assert any("data/a.bin" in line and "`dvc repro` runs its stage" in line for line in lines)
    assert A.read_bytes() == b"edited", "somebody's work, which DVC notices, stays"
    assert not B.exists()


def test_a_damaged_listing_and_a_record_of_the_run_cache_are_moved_away(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (listing,) = Path(".dvc/cache/files/md5").glob("*/*.dir")
    records = sorted(Path(".dvc/cache/runs").glob("*/*/*"))
    text = records[0].read_bytes()
    damage(listing, b"")
    damage(records[0], text[: text.index(b"\n") + 1])  # still YAML
    damage(records[1], b"")
    lines = doctor(capsys)[1]
    assert sum(line.startswith("wrong: ") for line in lines) == 3
    assert doctor(capsys, repair=True)[0]
    assert not listing.exists()
    run_dvc("repro")
    assert doctor(capsys) == (True, ["doctor: nothing wrong"])


def test_missing_objects_and_outs_are_not_wrong(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fresh clone has none: `dvc pull` fetches them."""
    shutil.rmtree(".dvc/cache")
    shutil.rmtree("data")
    assert doctor(capsys) == (True, ["doctor: nothing wrong"])


def test_objects_of_other_projects_are_only_reported(
    project: Path, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    shared = tmp_path_factory.mktemp("shared")
    Path(".dvc/cache").rename(shared / "cache")
    Path(".dvc/cache").symlink_to(shared / "cache")
    foreign = shared / "cache/files/md5/ab" / ("c" * 30)
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_bytes(b"")
    own = object_of(B)
    damage(own, b"")
    is_well, lines = doctor(capsys, repair=True)
    assert not is_well
    (left,) = [line for line in lines if line.startswith("wrong: ")]
    assert f"{'c' * 30} is empty: no dvc.lock of this project has it" in left
    assert foreign.exists()
    assert not own.exists()
    assert len(list((shared / "cache/files/quarantine").rglob(own.parent.name + own.name))) == 1


def test_nothing_is_repaired_while_dvc_is_at_work(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    item = object_of(B)
    damage(item, b"")
    with dvc.exclusive(), pytest.raises(dvc.DvcIsBusy):
        examine(repair=True)
    user = {"pid": psutil.Process().ppid(), "cmd": "dvc repro"}
    rwlock = Path(".dvc/tmp/rwlock")
    rwlock.write_text(json.dumps({"write": {str(project / "data"): user}}))
    with pytest.raises(dvc.DvcIsBusy, match=rf"\(process {user['pid']}\)"):
        examine(repair=True)
    temporary = Path(".dvc/tmp/exps/standalone/tmp1/.dvc/tmp/rwlock")
    temporary.parent.mkdir(parents=True)
    rwlock.rename(temporary)
    with pytest.raises(dvc.DvcIsBusy):
        examine(repair=True)
    assert item.exists()
    assert "): what it writes is left out" in "\n".join(doctor(capsys)[1])
    os.utime(temporary, (0, 0))  # older than the process, which has the id by chance
    assert doctor(capsys, repair=True)[0]
    assert not item.exists()


def test_a_killed_experiment_leaves_a_stage_and_a_head_on_no_branch(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("make.py").write_text(
        MAKE + "import os, time\nPath('pid').write_text(str(os.getpid()))\ntime.sleep(60)\n"
    )
    command = [sys.executable, "-m", "dvc", "exp", "run"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _wait_for(Path("pid"))
        process.kill()
    stage = psutil.Process(int(Path("pid").read_text()))
    try:
        assert "DVC is at work (process " in doctor(capsys)[1][0]
        with pytest.raises(dvc.DvcIsBusy):
            examine(repair=True)
    finally:
        for child in (*stage.children(), stage):
            child.kill()
        psutil.wait_procs([stage], timeout=10)
    is_well, lines = doctor(capsys)
    assert not is_well
    assert "`git switch -C main` returns to main" in lines[0]
    git("switch", "-q", "-C", "main")
    Path("make.py").write_text(MAKE)
    run_dvc("repro")
    assert doctor(capsys) == (True, ["doctor: nothing wrong"])


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("content", [b"", b'{"write": {', b"[]", b'{"write": {"a": 1}}'])
@pytest.mark.parametrize("path", [".dvc/tmp/rwlock", ".dvc/tmp/exps/rwlock"])
def test_a_damaged_list_of_readers_and_writers_is_moved_away(
    project: Path, capsys: pytest.CaptureFixture[str], path: str, content: bytes
) -> None:
    rwlock = Path(path)
    rwlock.parent.mkdir(exist_ok=True)
    rwlock.write_bytes(content)
    is_well, lines = doctor(capsys)
    assert not is_well
    assert "rwlock is damaged, and DVC stops at it: `pipeline doctor --repair`" in lines[0]
    assert doctor(capsys, repair=True)[0]
    assert not rwlock.exists()


def test_a_damaged_memory_of_digests_is_moved_away(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """DVC keeps it outside the project, and stops with "file is not a database"."""
    (database,) = Path(os.environ["DVC_SITE_CACHE_DIR"]).glob("repo/*/hashes/local/cache.db")
    for path in database.parent.glob("*"):
        path.write_bytes(b"x" * 5000)
    is_well, lines = doctor(capsys)
    assert not is_well
    assert f"{database.relative_to(project)}, DVC's memory of digests, is damaged" in lines[0]
    assert "DVC does not run here (file is not a database)" in lines[1]
    assert doctor(capsys, repair=True)[0]
    assert "Data and pipelines are up to date" in run_dvc("status")


def test_files_that_are_written_in_place_are_examined(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = Path("params.yaml").read_text()
    for path, text, expected in (
        ("params.yaml", params[:-20], "params.yaml is cut off after"),
        ("params.yaml", "", "params.yaml is cut off after 0 bytes of"),
        ("params.yaml", params.replace("size: 224", "size: -1"), "images.size = -1"),
        (".dvc/config", "[cac", ".dvc/config is cut off after 4 bytes of"),
        ("dvc.yaml", STAGES[:30], "dvc.yaml is cut off after 30 bytes of"),
        ("dvc.lock", Path("dvc.lock").read_text()[:200], "fixed: dvc.lock ends after 200 bytes"),
    ):
        whole = Path(path).read_text()
        Path(path).write_text(text)
        is_well, lines = doctor(capsys)
        assert any(expected in line for line in lines), (path, lines)
        assert is_well is (path == "dvc.lock")
        Path(path).write_text(whole)
    assert doctor(capsys)[0]


def test_mlflows_database_is_examined(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = Path("mlflow.db")
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE runs (id)")
        connection.executemany("INSERT INTO runs VALUES (?)", [("x" * 500,)] * 1000)
    connection.close()
    assert doctor(capsys)[0]
    sound = database.read_bytes()
    for content, reason in (
        (b"", "it has no table of runs"),
        (sound[:5000], "malformed"),
        (b"x" * 5000, "file is not a database"),
        (sound[:8192] + bytes(4096) + sound[12288:], ""),
    ):
        database.write_bytes(content)
        is_well, lines = doctor(capsys)
        assert not is_well
        assert "is damaged (" in lines[0]
        assert reason in lines[0]
        assert database.read_bytes() == content


def test_what_killed_processes_left_is_moved_away(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = [
        Path(".dvc/tmp/exps/standalone/tmpabc"),
        Path(".dvc/cache/files/md5/.Ab1.tmp"),
        Path("data/.raw.staging-x1"),
    ]
    for path in (*left, Path(".dvc/cache/files/md5/.young.tmp")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    for path in left:
        os.utime(path, (0, 0))
    clone = Path(".cache/reproduce/0123abcd")
    clone.mkdir(parents=True)
    is_well, lines = doctor(capsys)
    assert not is_well
    assert len(lines) == len(left) + 2
    is_well, lines = doctor(capsys, repair=True)
    assert not is_well, "the clone is left, and its sentence"
    assert not any(path.exists() for path in left)
    assert Path(".dvc/cache/files/md5/.young.tmp").exists()
