import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.web.content_store import (
    MAX_MEMORY_BYTES,
    BodyBuffer,
    ContentStore,
    StoredBody,
)
from tests import ROOT

URL = "https://example.org/a.jpg"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def store() -> Iterator[ContentStore]:
    with ContentStore() as store:
        yield store


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def add(store: ContentStore, data: bytes, url: str = URL) -> StoredBody:
    with BodyBuffer(store.folder) as body:
        body.write(data)
        return store.add_photo(url, body)


def packs(root: Path) -> list[Path]:
    return sorted((root / ".cache/acquire/packs").iterdir())


def entries(root: Path) -> list[StoredBody]:
    """The entries of the index, read without ContentStore."""
    with closing(sqlite3.connect(root / ".cache/acquire/index.db")) as index:
        return [
            StoredBody(*row) for row in index.execute("SELECT sha256, pack, start, size FROM kept")
        ]


def make_file(root: Path, data: bytes) -> Path:
    path = root / "file"
    path.write_bytes(data)
    return path


# Photographs.


@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        1000,
        MAX_MEMORY_BYTES - 1,
        MAX_MEMORY_BYTES,
        MAX_MEMORY_BYTES + 1,
        5 * MAX_MEMORY_BYTES,
    ],
)
def test_the_same_bytes_come_back(store: ContentStore, size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert store.read_photo(add(store, data)) == data


def test_a_body_may_come_in_pieces(store: ContentStore) -> None:
    pieces = [random.Random(number).randbytes(70_000) for number in range(40)]
    with BodyBuffer(store.folder) as body:
        for piece in pieces:
            body.write(piece)
        stored = store.add_photo(URL, body)
    assert store.read_photo(stored) == b"".join(pieces)
    assert stored.sha256 == sha256(b"".join(pieces))


@settings(derandomize=True, max_examples=20)
@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=20))
def test_many_photographs_come_back(photos: list[bytes]) -> None:
    with ContentStore() as store:
        bodies = [add(store, data, f"{URL}?{number}") for number, data in enumerate(photos)]
        assert [store.read_photo(body) for body in bodies] == photos


def test_a_photograph_is_found_by_its_url(store: ContentStore) -> None:
    body = add(store, b"photo")
    assert store.find_photo(URL) == body
    assert store.find_photo(f"{URL}?other") is None


def test_a_photograph_is_found_by_its_digest(store: ContentStore) -> None:
    body = add(store, b"photo")
    assert store.find_photo("https://elsewhere.example/", sha256(b"photo")) == body


def test_a_photograph_with_another_digest_is_not_returned(
    store: ContentStore,
) -> None:
    add(store, b"photo")
    assert store.find_photo(URL, sha256(b"other")) is None


def test_the_last_photograph_of_a_url_is_returned(store: ContentStore) -> None:
    add(store, b"old")
    add(store, b"new")
    body = store.find_photo(URL)
    assert body is not None
    assert store.read_photo(body) == b"new"
    assert store.find_sha256(URL) == sha256(b"new")


@pytest.mark.parametrize("url", ["", "ü☃", "a'b\"c; DROP TABLE kept", "x" * 100_000, "nul\0"])
def test_any_url_can_be_stored(store: ContentStore, url: str) -> None:
    body = add(store, b"photo", url)
    assert store.find_photo(url) == body


def test_another_run_finds_a_stored_photograph() -> None:
    with ContentStore() as first:
        add(first, b"photo")
    with ContentStore() as second:
        body = second.find_photo(URL)
        assert body is not None
        assert second.read_photo(body) == b"photo"


def test_two_stores_of_a_folder_share_their_photographs() -> None:
    with ContentStore() as first, ContentStore() as second:
        for number, (writer, other) in enumerate([(first, second), (second, first)] * 3):
            data = f"photo {number}".encode()
            add(writer, data, f"{URL}?{number}")
            body = other.find_photo(f"{URL}?{number}")
            assert body is not None
            assert other.read_photo(body) == data


def test_threads_share_a_store(store: ContentStore) -> None:
    results: list[bool] = []

    def work(number: int) -> None:
        for photo in range(20):
            data = random.Random(f"{number} {photo}").randbytes(5000)
            body = add(store, data, f"{URL}?{number}-{photo}")
            results.append(store.read_photo(body) == data)

    run_at_once(work, 8)
    assert results == [True] * 160


def test_threads_can_open_the_same_packs_concurrently() -> None:
    photos = [random.Random(number).randbytes(50) for number in range(60)]
    for number, data in enumerate(photos):
        with ContentStore() as writer:
            add(writer, data, f"{URL}?{number}")
    read: list[bool] = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ContentStore() as store:
            bodies = [store.find_photo(f"{URL}?{number}") for number in range(60)]

            def work(_: int) -> None:
                for body, data in zip(bodies, photos, strict=True):
                    assert body is not None
                    read.append(store.read_photo(body) == data)

            run_at_once(work, 8)
    finally:
        sys.setswitchinterval(before)
    assert read == [True] * 480


def run_at_once(work: object, count: int) -> None:
    assert callable(work)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Several processes.

WRITER = """
import random, sys
from pipeline.stages.acquire.web.content_store import BodyBuffer, ContentStore
seed, count = sys.argv[1], int(sys.argv[2])
with ContentStore() as store:
    print("ready", flush=True)
    for number in range(count):
        with BodyBuffer(store.folder) as body:
            numbers = random.Random(f"{seed} {number}")
            body.write(numbers.randbytes(numbers.randrange(200_000)))
            store.add_photo(f"https://example.org/{seed}/{number}", body)
"""


@contextmanager
def writer(seed: str, count: int) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-c", WRITER, seed, str(count)]
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, env=os.environ.copy()
    ) as process:
        assert process.stdout is not None
        try:
            yield process
        finally:
            process.kill()


def wait_for(url: str, process: "subprocess.Popen[str]") -> StoredBody:
    """Wait until the process has stored the photograph of a URL."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 10
    with ContentStore() as store:
        while (body := store.find_photo(url)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
    return body


def expected_bytes(seed: str, number: int) -> bytes:
    numbers = random.Random(f"{seed} {number}")
    return numbers.randbytes(numbers.randrange(200_000))


def test_processes_can_write_concurrently(store: ContentStore) -> None:
    with writer("a", 60) as first, writer("b", 60) as second:
        assert [process.wait(30) for process in (first, second)] == [0, 0]
    for seed in "ab":
        for number in range(60):
            body = store.find_photo(f"https://example.org/{seed}/{number}")
            assert body is not None
            assert store.read_photo(body) == expected_bytes(seed, number)


def test_photographs_of_a_running_process_are_found(store: ContentStore) -> None:
    with writer("a", 100_000) as process:
        assert store.read_photo(wait_for("https://example.org/a/0", process)) == expected_bytes(
            "a", 0
        )


@pytest.mark.parametrize("delay", [0.0, 0.037, 0.11])
def test_a_killed_process_leaves_a_consistent_index(root: Path, delay: float) -> None:
    with writer("a", 100_000) as process:
        wait_for("https://example.org/a/0", process)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait(5)
    with ContentStore() as store:
        for body in entries(root):
            assert sha256(store.read_photo(body)) == body.sha256
        assert store.read_photo(add(store, b"more")) == b"more"


# Damage.


@pytest.mark.parametrize("damage", ["changed", "shorter", "gone", "empty"])
def test_a_damaged_photograph_is_deleted_from_the_index(root: Path, damage: str) -> None:
    with ContentStore() as store:
        add(store, b"another", f"{URL}?another")
        body = add(store, b"photo")
    pack = packs(root)[0]
    match damage:
        case "changed":
            pack.write_bytes(b"anotherPhoto")
        case "shorter":
            pack.write_bytes(b"another")
        case "gone":
            pack.unlink()
        case _:
            pack.write_bytes(b"")
    with ContentStore() as store:
        with pytest.raises(PipelineError) as caught:
            store.read_photo(body)
        assert str(caught.value) == (
            f"{pack} is damaged: run again to fetch the lost photographs again"
        )
        assert store.find_photo(URL) is None
        assert store.find_photo(URL, body.sha256) is None
        assert store.read_photo(add(store, b"photo")) == b"photo"


def test_an_intact_photograph_beside_a_damaged_one_is_read(root: Path) -> None:
    with ContentStore() as store:
        whole = add(store, b"another", f"{URL}?another")
        damaged = add(store, b"photo")
    packs(root)[0].write_bytes(b"anotherPhoto")
    with ContentStore() as store:
        with pytest.raises(PipelineError):
            store.read_photo(damaged)
        assert store.read_photo(whole) == b"another"


@pytest.mark.parametrize("damage", ["shorter", "gone"])
def test_damage_to_the_pack_being_written_is_detected(
    root: Path, store: ContentStore, damage: str
) -> None:
    body = add(store, b"photo")
    if damage == "gone":
        packs(root)[0].unlink()
    else:
        os.truncate(packs(root)[0], 3)
    with pytest.raises(PipelineError):
        store.read_photo(body)


@pytest.mark.parametrize(
    "data", [b"no database", b"\0" * 4096, b"SQLite format 3\0" + b"\xff" * 84]
)
def test_an_index_that_is_not_a_database_is_an_error(root: Path, data: bytes) -> None:
    folder = root / ".cache/acquire"
    folder.mkdir(parents=True)
    (folder / "index.db").write_bytes(data)
    with pytest.raises(PipelineError) as caught:
        ContentStore()
    assert str(caught.value).startswith(f"{folder / 'index.db'} cannot be used (")
    assert str(caught.value).endswith(f"): delete {folder} to fetch everything again")


@pytest.mark.parametrize("position", [0.3, 0.9])
def test_a_damaged_index_is_an_error(root: Path, position: float) -> None:
    with ContentStore() as store:
        for number in range(300):
            add(store, b"photo", f"{URL}?{number}")
    index = root / ".cache/acquire/index.db"
    data = bytearray(index.read_bytes())
    start = int(position * len(data)) // 4096 * 4096
    data[start : start + 4096] = b"\xff" * 4096
    index.write_bytes(data)
    with pytest.raises(PipelineError, match=r"index\.db cannot be used"):
        use_all(300)


def use_all(count: int) -> None:
    with ContentStore() as store:
        for number in range(count):
            store.find_photo(f"{URL}?{number}")
            store.find_photo("", sha256(b"photo"))
            add(store, b"new", f"{URL}?{number}")


def test_an_empty_index_file_is_initialized(root: Path) -> None:
    folder = root / ".cache/acquire"
    folder.mkdir(parents=True)
    (folder / "index.db").touch()
    with ContentStore() as store:
        assert store.read_photo(add(store, b"photo")) == b"photo"


# Archives.


def test_an_archive_is_moved_to_the_path_of_its_digest(root: Path, store: ContentStore) -> None:
    store.add_archive(make_file(root, b"archive"), URL, sha256(b"archive"))
    assert store.archive_path(sha256(b"archive")).read_bytes() == b"archive"
    assert not (root / "file").exists()


def test_an_archive_is_recorded_under_its_url(root: Path) -> None:
    with ContentStore() as store:
        assert store.find_sha256(URL) is None
        store.add_archive(make_file(root, b"archive"), URL, sha256(b"archive"))
    with ContentStore() as store:
        assert store.find_sha256(URL) == sha256(b"archive")


def test_an_archive_with_two_urls_is_stored_once(root: Path, store: ContentStore) -> None:
    for url in (URL, f"{URL}?mirror"):
        store.add_archive(make_file(root, b"archive"), url, sha256(b"archive"))
    assert [path.name for path in (root / ".cache/acquire/files").iterdir()] == [sha256(b"archive")]


def test_an_unknown_archive_has_a_path(store: ContentStore) -> None:
    assert not store.archive_path("0" * 64).exists()


def test_an_archive_is_not_returned_as_a_photograph(root: Path, store: ContentStore) -> None:
    store.add_archive(make_file(root, b"archive"), URL, sha256(b"archive"))
    assert store.find_photo(URL) is None
    assert store.find_photo(URL, sha256(b"archive")) is None


def test_a_photograph_is_found_beside_an_archive_of_the_same_bytes(
    root: Path, store: ContentStore
) -> None:
    store.add_archive(make_file(root, b"both"), "https://a.example/", sha256(b"both"))
    body = add(store, b"both", "https://b.example/")
    assert store.find_photo("https://b.example/", sha256(b"both")) == body


def test_the_partial_path_depends_on_the_url(store: ContentStore) -> None:
    path = store.partial_path(URL)
    assert path == store.partial_path(URL) != store.partial_path(f"{URL}?other")
    assert not path.exists()
    assert path.parent.is_dir()


def test_all_photographs_of_a_lost_pack_are_deleted_at_once() -> None:
    with ContentStore() as store:
        for number in range(20):
            body = add(store, b"%d" % number, f"{URL}{number}")
    for pack in (store.folder / "packs").iterdir():
        pack.unlink()
    with ContentStore() as store:
        with pytest.raises(PipelineError):
            store.read_photo(body)
        assert not any(store.find_photo(f"{URL}{number}") for number in range(20))
