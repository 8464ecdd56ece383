import errno
import os
import time
from pathlib import Path

import pytest

from pipeline.core import atomic, staging


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_file_appears_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "out.txt"
    with atomic.replacing(path) as staged:
        staged.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["out.txt"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "old").write_text("old")
    with atomic.replacing(path) as staged:
        staged.mkdir()
        (staged / "new").write_text("new")
    assert names(path) == ["new"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("link", [False, True], ids=["file", "symlink to a folder"])
def test_a_folder_replaces_a_file_or_a_symlink(tmp_path: Path, link: bool) -> None:
    path = tmp_path / "out"
    if link:
        (tmp_path / "elsewhere").mkdir()
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_text("old")
    with atomic.replacing(path) as staged:
        staged.mkdir()
        (staged / "new").write_text("new")
    assert names(path) == ["new"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_leaves_the_old_file_and_no_leftovers(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "out"
    path.write_text("old")

    def fail() -> None:
        with atomic.replacing(path) as staged:
            staged.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_failure_leaves_the_old_folder_and_no_leftovers(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "old").write_text("old")

    def fail() -> None:
        with atomic.replacing(path) as staged:
            staged.mkdir()
            (staged / "half").write_text("half")
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        fail()
    assert names(path) == ["old"]
    assert names(tmp_path) == ["out"]


def test_the_old_folder_stays_when_nothing_was_written(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(AssertionError), atomic.replacing(path):
        pass
    assert names(tmp_path) == ["out"]
    assert names(path) == ["old"]


def test_a_hard_linked_file_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    cached, path = tmp_path / "cached", tmp_path / "out"
    cached.write_text("old")
    path.hardlink_to(cached)
    atomic.write_text(path, "new")
    assert cached.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("make_folder", [True, False])
def test_a_symlink_is_replaced_and_not_written_through(tmp_path: Path, make_folder: bool) -> None:
    cached, path = tmp_path / "cached", tmp_path / "out"
    cached.mkdir() if make_folder else cached.write_text("old")
    path.symlink_to(cached)
    atomic.write_text(path, "new")
    assert not path.is_symlink()
    assert path.read_text() == "new"
    assert cached.is_dir() if make_folder else cached.read_text() == "old"


@pytest.mark.parametrize(("days", "left"), [(0.9, True), (1.1, False)])
def test_staging_folders_without_a_lock_are_removed_after_a_day(
    tmp_path: Path, days: float, left: bool
) -> None:
    path = tmp_path / "out"
    abandoned = tmp_path / ".out.staging-x1"
    abandoned.mkdir()
    (abandoned / "half").write_text("half")
    age(abandoned, days * 24 * 3600)
    atomic.write_text(path, "new")
    assert abandoned.exists() is left


def test_an_old_hidden_folder_of_somebody_else_stays(tmp_path: Path) -> None:
    backup = tmp_path / ".out.backup"
    backup.mkdir()
    (backup / "precious").write_text("mine")
    age(backup, 100 * 24 * 3600)
    atomic.write_text(tmp_path / "out", "new")
    assert names(backup) == ["precious"]


def test_text_is_written_as_utf_8_with_its_own_line_ends(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "out", "é\r\nx\n")
    assert (tmp_path / "out").read_bytes() == b"\xc3\xa9\r\nx\n"


def test_a_relative_path_is_resolved_before_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with atomic.replacing(Path("out")) as staged:
        monkeypatch.chdir(tmp_path / "elsewhere")
        staged.write_text("new")
    assert (tmp_path / "out").read_text() == "new"


def test_a_table_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    atomic.write_csv(path, ("id", "name"), [("1", 'a,"b"'), (2, "c\nd"), (3, "é")])
    assert path.read_bytes() == 'id,name\n1,"a,""b"""\n2,"c\nd"\n3,é\n'.encode()
    assert [tuple(row.values()) for row in atomic.read_csv(path)] == [
        ("1", 'a,"b"'),
        ("2", "c\nd"),
        ("3", "é"),
    ]


def test_a_row_that_fails_leaves_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    atomic.write_csv(path, ("n",), [(1,)])
    with pytest.raises(ZeroDivisionError):
        atomic.write_csv(path, ("n",), ((1 // n,) for n in (1, 0)))
    assert path.read_text() == "n\n1\n"
    assert names(tmp_path) == ["table.csv"]


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files and folders in the order in which they are synced, and renames to a final name."""
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def record_sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        events.append(f"sync {'/'.join(path.relative_to(tmp_path).parts[-2:])}")
        fsync(descriptor)

    def record_replace(path: Path, target: Path) -> Path:
        events.append(f"name {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "replace", record_replace)
    return events


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux has it")


@needs_proc
def test_a_file_is_on_disk_before_it_has_its_name_and_the_name_before_the_end(
    tmp_path: Path, events: list[str]
) -> None:
    atomic.write_text(tmp_path / "out.txt", "new")
    (file, name, folder) = events
    assert (file[-8:], name, folder) == ("/out.txt", "name out.txt", "sync ")


@needs_proc
def test_everything_in_a_folder_is_on_disk_before_it_has_its_name(
    tmp_path: Path, events: list[str]
) -> None:
    with atomic.replacing(tmp_path / "out") as staged:
        (staged / "deep").mkdir(parents=True)
        atomic.write_text(staged / "deep" / "file", "new")
        (staged / "deep" / "other").write_text("new")
    assert events[0] == "name file"  # it reaches the disk with the folder
    synced = [event.rpartition("/")[2] for event in events[1:5]]
    assert (sorted(synced[:2]), synced[2:]) == (["file", "other"], ["deep", "out"])
    assert events[5:] == ["name out", "sync "]


@needs_proc
def test_what_a_power_cut_may_damage_is_not_synced(tmp_path: Path, events: list[str]) -> None:
    with atomic.replacing(tmp_path / "out", durable=False) as staged:
        staged.write_text("new")
    assert events == ["name out"]


def test_a_file_system_that_cannot_sync_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    atomic.write_text(tmp_path / "out.txt", "new")
    assert (tmp_path / "out.txt").read_text() == "new"


def test_a_disk_that_fails_to_sync_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out.txt").write_text("old")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        atomic.write_text(tmp_path / "out.txt", "new")
    assert (tmp_path / "out.txt").read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28]"),  # pyarrow's
        OSError(errno.ENOSPC, "No space left on device", "source", None, "copy"),  # shutil's
        OSError(errno.EIO, "cannot serialize: No space left on device", ".out.staging-1/out"),
    ],
)
def test_a_full_disk_is_an_error_of_the_file(tmp_path: Path, error: OSError) -> None:
    def fail() -> None:
        with atomic.replacing(tmp_path / "out"):
            raise error

    with pytest.raises(OSError, match="No space left on device") as raised:
        fail()
    assert raised.value.filename == str(tmp_path / "out")
    assert raised.value.filename2 is None
    assert names(tmp_path) == []


def test_a_folder_that_takes_no_files_is_an_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: int = 0, **_: bool) -> None:
        if staging.is_staged(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionError) as raised:
        atomic.write_text(tmp_path / "out.txt", "new")
    assert raised.value.filename == str(tmp_path / "out.txt")


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic.replacing(tmp_path / "out"):
            (tmp_path / "source").read_bytes()

    with pytest.raises(FileNotFoundError) as raised:
        fail()
    assert raised.value.filename == str(tmp_path / "source")


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/mine.txt").write_text("mine")
    with pytest.raises(IsADirectoryError, match="folder of this name"):
        atomic.write_text(tmp_path / "work", "new")
    assert (tmp_path / "work/mine.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
