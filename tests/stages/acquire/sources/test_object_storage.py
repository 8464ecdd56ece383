import errno
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.sources import object_storage
from pipeline.stages.acquire.sources.object_storage import mirror
from tests.builders.s3 import BUCKET, serve_s3, use_s3

RANDOM = random.Random(1)
FILES = {
    f"{label}/{n}.jpg": RANDOM.randbytes(900 + int(n)) for label in ("cat", "dog") for n in "012"
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serve_s3() as address:
        yield address


@pytest.fixture
def storage(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> "Storage":
    use_s3(monkeypatch, server)
    storage = Storage(f"{BUCKET}/{tmp_path.name}")
    storage.write(FILES)
    return storage


class Storage:
    """A folder in a bucket."""

    def __init__(self, path: str) -> None:
        self.address = f"s3://{path}"
        self._path = path
        self._files = s3fs.S3FileSystem(skip_instance_cache=True)

    def write(self, files: dict[str, bytes]) -> None:
        self._files.pipe({f"{self._path}/{name}": content for name, content in files.items()})

    def remove(self, name: str) -> None:
        self._files.rm(f"{self._path}/{name}")


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are fetched."""
    names: list[str] = []
    fetch = object_storage._Mirror._fetch_batch

    def note(self: Any, batch: Any) -> None:
        names.extend(batch)
        fetch(self, batch)

    monkeypatch.setattr(object_storage._Mirror, "_fetch_batch", note)
    return names


def test_a_folder_is_copied_with_its_paths(storage: Storage) -> None:
    assert contents(mirror(storage.address, 1e9)) == FILES
    assert contents(mirror(f"{storage.address}/", 1e9)) == FILES


def test_only_what_changed_is_fetched(storage: Storage, fetched: list[str]) -> None:
    mirror(storage.address, 1e9)
    assert sorted(fetched) == sorted(FILES)
    fetched.clear()
    mirror(storage.address, 1e9)
    assert fetched == []
    changed = {"cat/0.jpg": RANDOM.randbytes(len(FILES["cat/0.jpg"])), "cat/new.jpg": b"new"}
    storage.write(changed)
    storage.remove("dog/1.jpg")
    expected = {name: data for name, data in FILES.items() if name != "dog/1.jpg"} | changed
    assert contents(mirror(storage.address, 1e9)) == expected
    assert sorted(fetched) == sorted(changed)


def test_a_file_that_was_changed_here_or_cut_off_is_fetched_again(
    storage: Storage, fetched: list[str]
) -> None:
    folder = mirror(storage.address, 1e9)
    fetched.clear()
    (folder / "cat/0.jpg").write_bytes(b"cut")
    (folder / "cat/1.jpg").unlink()
    (folder / "left over.jpg").write_bytes(b"of a killed run")
    assert contents(mirror(storage.address, 1e9)) == FILES
    assert sorted(fetched) == ["cat/0.jpg", "cat/1.jpg"]


def test_what_a_killed_run_fetched_is_not_fetched_again(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, fetched: list[str]
) -> None:
    monkeypatch.setattr(object_storage, "BATCH", 2)
    fetch = object_storage._Mirror._fetch_batch

    def stop(self: Any, batch: Any) -> None:
        if len(fetched) >= 4:
            raise KeyboardInterrupt
        fetch(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(object_storage._Mirror, "_fetch_batch", stop)
        with pytest.raises(KeyboardInterrupt):
            mirror(storage.address, 1e9)
    assert len(fetched) == 4
    assert contents(mirror(storage.address, 1e9)) == FILES
    assert sorted(fetched) == sorted(FILES)


def test_a_table_of_fetched_files_that_is_cut_off_is_used_as_far_as_it_goes(
    storage: Storage, fetched: list[str], root: Path
) -> None:
    mirror(storage.address, 1e9)
    (table,) = root.rglob("fetched.jsonl")
    table.write_bytes(table.read_bytes()[:-5])
    fetched.clear()
    assert contents(mirror(storage.address, 1e9)) == FILES
    assert fetched == [max(FILES)]
    table.write_bytes(b"\xff")
    assert contents(mirror(storage.address, 1e9)) == FILES


def test_one_file_is_copied_with_its_name(storage: Storage) -> None:
    path = mirror(f"{storage.address}/cat/0.jpg", 1e9)
    assert path.name == "0.jpg"
    assert path.read_bytes() == FILES["cat/0.jpg"]


@pytest.mark.parametrize(
    "name", ["../outside.jpg", "a/../../outside.jpg", "cat", "x" * 256, "a//b.jpg", "./x.jpg"]
)
def test_a_name_that_no_file_can_have_is_left_out_with_a_warning(
    storage: Storage, capsys: pytest.CaptureFixture[str], name: str, root: Path
) -> None:
    storage.write({name: b"strange"})
    folder = mirror(storage.address, 1e9)
    assert contents(folder) == FILES
    assert f"left out 1 of 7 files at {storage.address}, because no file can be called " in (
        capsys.readouterr().err
    )
    assert not list(root.rglob("outside.jpg"))


def test_empty_objects_that_mark_folders_are_no_files(storage: Storage) -> None:
    storage.write({"cat/": b"", "empty/": b""})
    assert contents(mirror(storage.address, 1e9)) == FILES


def test_too_large_an_address_is_refused_before_it_is_fetched(
    storage: Storage, fetched: list[str]
) -> None:
    with pytest.raises(PipelineError) as caught:
        mirror(storage.address, 5000)
    assert str(caught.value) == (
        f"{storage.address} has 0.0 GB, past acquire.max_gigabytes=5e-06: raise it, or use a part"
    )
    assert fetched == []


def test_nothing_at_an_address_is_one_sentence(storage: Storage) -> None:
    with pytest.raises(PipelineError, match=r"has no files: correct path in dataset.toml"):
        mirror(f"{storage.address}/missing", 1e9)
    with pytest.raises(PipelineError, match=r"s3://no-such-bucket/x has no files|cannot be read"):
        mirror("s3://no-such-bucket/x", 1e9)


def test_a_file_may_become_a_folder_and_a_folder_a_file(storage: Storage) -> None:
    storage.write({"a": b"file", "b/c": b"in a folder"})
    mirror(storage.address, 1e9)
    storage.remove("a")
    storage.remove("b/c")
    changed = {"a/d/e": b"in a folder", "b": b"file"}
    storage.write(changed)
    assert contents(mirror(storage.address, 1e9)) == FILES | changed


def test_a_file_that_changes_while_it_is_fetched_is_not_taken(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = object_storage._Mirror._fetch

    def change_first(self: Any, missing: Any, fetched: Any) -> None:
        storage.write({"cat/0.jpg": b"another"})
        fetch(self, missing, fetched)

    with monkeypatch.context() as patch:
        patch.setattr(object_storage._Mirror, "_fetch", change_first)
        with pytest.raises(PipelineError, match="has 7 bytes, but was listed with 900: it has"):
            mirror(storage.address, 1e9)
    assert contents(mirror(storage.address, 1e9)) == FILES | {"cat/0.jpg": b"another"}


def test_a_full_disk_is_not_blamed_on_the_storage(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(s3fs.S3FileSystem, "_get_file", fill)
    with pytest.raises(OSError, match="No space left on device") as caught:
        mirror(storage.address, 1e9)
    assert not isinstance(caught.value, PipelineError)


def test_junk_is_not_fetched(storage: "Storage", fetched: list[str]) -> None:
    storage.write({"cat/._0.jpg": b"\0\5\x16\7", "cat/.DS_Store": b"x"})
    assert contents(mirror(storage.address, 1e9)) == FILES
    assert sorted(fetched) == sorted(FILES)
