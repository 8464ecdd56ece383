"""The Flickr data set of the 2020 tutorial, with real DVC and a fake Flickr."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.core import atomic, shards
from tests.fakes.process import Running, running
from tests.project import Project

KEY, SECRET = "4f1a90c3d2e57b68a1b2c3d4e5f60718", "9b8c7d6e5f4a3b2c"
FLICKR = (
    "--photos",
    "car+bicycle=20",
    "--photos",
    "car=650",
    "--photos",
    "bicycle=650",
    "--key",
    KEY,
    "--secret",
    SECRET,
    "--remove-every",
    "50",
    "--growing",
    "--repeats",
    "7",
    "--photo-bytes",
    "4000",
    "--fault",
    "api=5:500,malformed,429",
    "--fault",
    "photo=5:503,reset,short,drop",
)
TRAIN, TEST = 250, 75  # photographs of each class: a quarter of the tutorial's
ACQUIRE = [
    sys.executable,
    "-m",
    "pipeline.stages.acquire",
    "datasets/cars_bicycles",
    "datasets",
    "data/raw",
    "data/skipped.csv",
]


@pytest.fixture(scope="module")
def flickr() -> Iterator[Running]:
    """Every fifth response fails, every fiftieth photograph is gone, pages grow and repeat."""
    with running(*FLICKR) as fake:
        yield fake


class Flickr(Project):
    """A project that searches the fake."""

    def __init__(self, folder: Path, fake: Running) -> None:
        self.fake = fake
        self.output = ""
        super().__init__(folder, small=False)
        text = (folder / "params.yaml").read_text()
        for old, new in (
            ("name: sample ", "name: cars_bicycles "),
            ("allow_private: false", "allow_private: true"),
            ("per_host_per_second: ", "per_host_per_second: 0"),
        ):
            assert old in text
            text = text.replace(old, new)
        (folder / "params.yaml").write_text(text)
        dataset_toml = folder / "datasets/cars_bicycles/dataset.toml"
        text = dataset_toml.read_text()
        text = text.replace("train = 1000\n", f"train = {TRAIN}\n")
        dataset_toml.write_text(text.replace("test = 300\n", f"test = {TEST}\n"))
        self.git("commit", "-qam", "cars and bicycles")

    @property
    def environment(self) -> dict[str, str]:
        keys = {"FLICKR_API_KEY": KEY, "FLICKR_API_SECRET": SECRET, "NO_PROXY": "*"}
        return super().environment | keys | {"FLICKR_API_URL": self.fake.api_url}

    def acquire(self, **environment: str) -> str:
        process = self.dvc("repro", "acquire", **environment)
        assert process.returncode == 0, process.stdout
        return process.stdout

    def rows(self) -> list[dict[str, str]]:
        names = ["label", "split", "group", "owner", "licence", "page_url"]
        rows: list[dict[str, str]] = shards.columns(self.folder / "data/raw", names).to_pylist()
        return rows

    def outputs(self) -> dict[str, str]:
        """DVC's digests of the outs of acquire."""
        lock = YAML(typ="safe").load(self.folder / "dvc.lock")
        return {out["path"]: out["md5"] for out in lock["stages"]["acquire"]["outs"]}


@pytest.fixture(scope="module")
def first(flickr: Running, tmp_path_factory: pytest.TempPathFactory) -> Flickr:
    """A project that has acquired the data set."""
    project = Flickr(tmp_path_factory.mktemp("first"), flickr)
    project.output = project.acquire()
    return project


def test_the_wanted_numbers_are_acquired_although_every_fifth_response_fails(first: Flickr) -> None:
    counts = Counter((row["label"], row["split"]) for row in first.rows())
    assert counts == {
        ("car", "train"): TRAIN,
        ("car", "test"): TEST,
        ("bicycle", "train"): TRAIN,
        ("bicycle", "test"): TEST,
    }


def test_no_owner_is_in_two_splits_and_every_licence_is_known(first: Flickr) -> None:
    splits: dict[str, set[str]] = {}
    for row in first.rows():
        splits.setdefault(row["group"], set()).add(row["split"])
        assert row["owner"]
        assert row["licence"]
        assert row["page_url"].startswith("https://www.flickr.com/photos/")
    assert {len(names) for names in splits.values()} == {1}


def test_skipped_photographs_are_listed(first: Flickr) -> None:
    reasons = Counter(row["reason"] for row in atomic.read_csv(first.folder / "data/skipped.csv"))
    # Of the 20 photographs that match both searches, 14 have an accepted licence.
    assert reasons == {"gone": 14, "two_classes": 2 * 14}


def test_key_and_secret_are_in_no_file_or_output(first: Flickr) -> None:
    for path in first.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert KEY.encode() not in data, path
            assert SECRET.encode() not in data, path
    assert KEY not in first.output
    assert SECRET not in first.output


def test_a_second_run_gives_the_same_lock(first: Flickr, tmp_path: Path) -> None:
    second = Flickr(tmp_path / "second", first.fake)
    second.acquire()
    assert (second.folder / "dvc.lock").read_bytes() == (first.folder / "dvc.lock").read_bytes()


def test_a_pin_needs_no_search(first: Flickr, tmp_path: Path) -> None:
    other = Flickr(tmp_path / "other", first.fake)
    first.pipeline("pin", "cars_bicycles")
    pin = first.folder / "datasets/cars_bicycles/photos.csv"
    (other.folder / "datasets/cars_bicycles/photos.csv").write_bytes(pin.read_bytes())
    pin.unlink()
    before = len(first.fake.record()["requests"])
    other.acquire(FLICKR_API_KEY="", FLICKR_API_URL="http://127.0.0.1:9/")
    assert other.outputs()["data/raw"] == first.outputs()["data/raw"]
    requests = first.fake.record()["requests"][before:]
    assert {request["kind"] for request in requests} == {"photo"}


def stored_urls(project: Flickr) -> set[str]:
    """The URLs in the store, read without changing it."""
    index = project.folder / ".cache/acquire/index.db"
    if not index.exists():
        return set()
    with sqlite3.connect(index) as connection:
        try:
            urls = {row[0] for row in connection.execute("SELECT url FROM kept")}
        except sqlite3.OperationalError:  # killed before there was a table
            urls = set()
    connection.close()
    return urls


def test_a_stage_killed_five_times_repeats_no_download(first: Flickr, tmp_path: Path) -> None:
    with running(*FLICKR, "--latency", "0.1", "--port", str(0)) as slow:
        project = Flickr(tmp_path / "killed", slow)
        chance = random.Random(1)
        snapshots: list[tuple[set[str], Counter[str]]] = []
        for _ in range(5):
            before = len(stored_urls(project))
            process = subprocess.Popen(
                ACQUIRE,
                cwd=project.folder,
                env=project.environment | {"DVC_ROOT": ""},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            # From the first photograph on, at a random moment.
            deadline = time.monotonic() + 30
            while len(stored_urls(project)) == before and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.25))
            process.send_signal(signal.SIGKILL)
            process.wait()
            snapshots.append((stored_urls(project), count_requests(slow)))
        counts = [len(urls) for urls, _ in snapshots]
        assert counts == sorted(counts)
        assert 0 < counts[0] < counts[-1] < 2 * (TRAIN + TEST), "it was not killed in the middle"
        completed = project.run(*ACQUIRE)
        assert completed.returncode == 0, completed.stdout
        last = count_requests(slow)
        for urls, requests in snapshots:
            for url in urls:
                assert last[url] == requests[url], "fetched again although it was complete"
        assert names(project) == names(first)


def count_requests(fake: Running) -> Counter[str]:
    requests = fake.record()["requests"]
    return Counter(fake.url(r["path"]) for r in requests if r["kind"] == "photo")


def names(project: Flickr) -> list[dict[str, str]]:
    """The acquired images without their URLs, which have another port."""
    columns = ["id", "name", "label", "split", "group"]
    rows: list[dict[str, str]] = shards.columns(project.folder / "data/raw", columns).to_pylist()
    return rows


def test_an_interrupt_ends_the_stage_in_two_seconds(tmp_path: Path) -> None:
    with running(
        "--photos",
        "car=50",
        "--photos",
        "bicycle=50",
        "--key",
        KEY,
        "--secret",
        SECRET,
        "--fault",
        "photo=1:stall",
    ) as silent:
        project = Flickr(tmp_path / "interrupted", silent)
        process = subprocess.Popen(
            ACQUIRE,
            cwd=project.folder,
            env=project.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + 30
        while not count_requests(silent) and time.monotonic() < deadline:
            time.sleep(0.05)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
        assert time.monotonic() - start < 2
        assert process.returncode == 130
        assert "Traceback" not in output
        assert not list(project.folder.rglob("*.staging-*")), "a staging folder is left"
