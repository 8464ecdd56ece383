import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.pin.pin import write_pin
from pipeline.core import atomic, shards
from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import FlickrDataset, SearchTerms, pin_path
from pipeline.params import load_params
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.photo_list import COLUMNS, read_photos
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem
from pipeline.stages.acquire.sources import web_photos
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import ContentStore
from pipeline.stages.acquire.web.retry import Policy
from tests import ROOT
from tests.fakes.flickr import KEY, SECRET, FakeFlickr
from tests.fakes.photos import photos

PARAMS = load_params(ROOT / "params.yaml").acquire.model_copy(
    update={"allow_private": True, "workers": 4, "per_host_per_second": 0}
)
CARS, BICYCLES = photos("car", 60), photos("bicycle", 60)
URLS = 'kind = "urls"\ndescription = "d"\nlicence = "of the set"\n'
ARCHIVE = 'kind = "archive"\ndescription = "d"\nurl = "https://example.org/a.zip"\n'
Acquire = Callable[[Client, ContentStore], Iterator[RawImage | SkippedItem]]


@pytest.fixture
def fake(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeFlickr]:
    with FakeFlickr([*CARS, *BICYCLES], photo_bytes=2000) as fake:
        monkeypatch.setenv("NO_PROXY", "*")
        monkeypatch.setenv("FLICKR_API_KEY", KEY)
        monkeypatch.setenv("FLICKR_API_SECRET", SECRET)
        monkeypatch.setenv("FLICKR_API_URL", fake.api_url)
        yield fake


def write_dataset(world: Path, text: str = URLS) -> Path:
    folder = world / "datasets/mine"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.toml").write_text(text)
    return folder


def write_lock(world: Path, name: str = "mine") -> Path:
    values = {"params.yaml": {"acquire": {}, "dataset": {"name": name, "source": "datasets"}}}
    path = world / "dvc.lock"
    path.write_text(json.dumps({"schema": "2.0", "stages": {"acquire": {"params": values}}}))
    return path


def acquire_to(acquire: Acquire, raw: Path) -> list[bytes]:
    """The bytes of the shards."""
    with Client(PARAMS, Policy(pause=0.01, read_timeout=0.5)) as client, ContentStore() as store:
        rows = (item.row() for item in acquire(client, store) if isinstance(item, RawImage))
        shards.write(raw, shards.RAW, rows)
    return [path.read_bytes() for path in shards.paths(raw)]


def acquire_list(path: Path) -> Acquire:
    return lambda client, store: web_photos.from_list(
        path, "of the set", client, store, PARAMS, ClassNames()
    )


def write_raw(world: Path, *rows: dict[str, Any]) -> Path:
    usual = {"id": "a" * 64, "label": "cat", "name": "cat/1", "bytes": b"x", "url": "http://h/1"}
    shards.write(world / "raw", shards.RAW, [usual | row for row in rows])
    return world / "raw"


def error_of(world: Path, lock: Path | None = None) -> str:
    with pytest.raises(PipelineError) as caught:
        write_pin(world / "datasets/mine", world / "raw", lock or write_lock(world))
    assert not pin_path(world / "datasets/mine").exists()
    return str(caught.value)


def test_the_pin_of_a_search_gives_the_same_bytes(world: Path, fake: FakeFlickr) -> None:
    searched = FlickrDataset(
        kind="flickr",
        description="d",
        seed=1,
        wanted={"train": 9, "test": 3},
        classes={"car": SearchTerms(text="car"), "bicycle": SearchTerms(text="bicycle")},
    )
    fake.removed.update(photo.id for photo in CARS[::5])
    first = acquire_to(
        lambda client, store: web_photos.from_search(searched, world, client, store, PARAMS),
        world / "raw",
    )
    path = write_pin(write_dataset(world), world / "raw", write_lock(world))
    (world / ".cache").rename(world / "other")
    assert acquire_to(acquire_list(path), world / "again") == first


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"id": "7", "title": "T", "owner": "Jo", "group": "jo", "page": "http://p", "split": "val"},
        {"title": ' "quoted", \n two lines ; \t \0 \x1b[31m \u202e ü'},
        {"title": "a\rb"},
        {"title": "a\r\nb"},
        {"id": "cat/cat/7"},
        {"licence": "CC BY 4.0"},
        {"label": "cat/with/slashes"},
        {"label": "-1", "id": "=1+1", "title": "=1+1", "owner": "@jo", "group": "+1"},
    ],
    ids=["bare", "all", "strange", "cr", "crlf", "id like a label", "licence", "label", "formula"],
)
def test_the_pin_of_a_list_gives_the_same_bytes(
    world: Path, fake: FakeFlickr, facts: dict[str, str]
) -> None:
    rows = [{"url": fake.url(CARS[n].path("z")), "label": "cat"} | facts for n in range(3)]
    path = world / "urls.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    first = acquire_to(acquire_list(path), world / "raw")
    pin = write_pin(write_dataset(world), world / "raw", write_lock(world))
    assert acquire_to(acquire_list(pin), world / "again") == first


def test_the_pin_of_a_pin_is_identical(world: Path, fake: FakeFlickr) -> None:
    rows = [[fake.url(photo.path("z")), "car", photo.title] for photo in CARS[:5]]
    atomic.write_csv(world / "urls.csv", ("url", "label", "title"), rows)
    acquire_to(acquire_list(world / "urls.csv"), world / "raw")
    path = write_pin(write_dataset(world), world / "raw", write_lock(world))
    before = path.read_bytes()
    acquire_to(acquire_list(path), world / "raw")
    assert write_pin(write_dataset(world), world / "raw", write_lock(world)).read_bytes() == before


def test_a_pin_has_the_columns_of_a_list_and_sha256(world: Path) -> None:
    folder = write_dataset(world)
    rows = write_raw(
        world, {"name": "cat/7", "title": "T", "page_url": "http://p", "split": "test"}, {}
    )
    path = write_pin(folder, rows, write_lock(world))
    assert path == folder / "photos.csv"
    assert path.read_text() == (
        "id,url,label,split,page,title,owner,group,licence,sha256\n"
        f"7,http://h/1,cat,test,http://p,T,,,,{'a' * 64}\n"
        f"1,http://h/1,cat,,,,,,,{'a' * 64}\n"
    )


def test_a_pin_is_replaced(world: Path) -> None:
    folder = write_dataset(world)
    write_pin(folder, write_raw(world, {}, {}), write_lock(world))
    path = write_pin(folder, write_raw(world, {}), write_lock(world))
    assert len(list(read_photos(path))) == 1


def test_images_of_another_data_set_are_refused(world: Path) -> None:
    write_dataset(world)
    write_raw(world, {})
    assert error_of(world, write_lock(world, "other")) == (
        f"{world / 'raw'} is of other, not of mine: first "
        "`dvc exp run -S dataset.name=mine -S dataset.source=datasets`"
    )


def test_images_of_another_source_are_refused(world: Path) -> None:
    folder = write_dataset(world)
    rows = shards.columns(write_raw(world, {}), shards.RAW.names).to_pylist()
    shards.write(world / "raw", shards.with_deviation(shards.RAW, "x.csv is not it"), rows)
    assert error_of(world, write_lock(world)) == (
        f"{world / 'raw'} does not have the images that {folder} describes (x.csv is not it): "
        "first "
        "`dvc exp run -S dataset.name=mine -S dataset.source=datasets`"
    )


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "schema: '2.0'\n",
        "stages: {}\n",
        "stages:\n  acquire:\n    cmd: x\n",
        "- 1\n",
        *(
            f"stages: {{acquire: {{params: {{params.yaml: {value}}}}}}}\n"
            for value in ("3", "{acquire: {}}", "{dataset: }", "{dataset: mine}", "{dataset: {}}")
        ),
    ],
    ids=[
        "missing",
        "empty",
        "no stages",
        "no acquire",
        "no params",
        "list",
        "a number",
        "no section",
        "nothing",
        "a text",
        "no name",
    ],
)
def test_a_lock_without_a_data_set_is_an_error(world: Path, text: str | None) -> None:
    write_dataset(world)
    write_raw(world, {})
    if text is not None:
        (world / "dvc.lock").write_text(text)
    assert error_of(world, world / "dvc.lock") == (
        f"{world / 'raw'} is of a data set not in dvc.lock, not of mine: first "
        "`dvc exp run -S dataset.name=mine -S dataset.source=datasets`"
    )


def test_a_lock_that_is_not_yaml_is_an_error(world: Path) -> None:
    write_dataset(world)
    write_raw(world, {})
    (world / "dvc.lock").write_text("<<<<<<< HEAD\nstages: [\n")
    assert error_of(world, world / "dvc.lock").startswith(f"{world / 'dvc.lock'} is not YAML: ")


def test_an_archive_is_refused_with_advice(world: Path) -> None:
    folder = write_dataset(world, ARCHIVE)
    write_raw(world, {})
    assert error_of(world) == (
        f"{folder} is an archive, and its photographs have no URLs: to pin it, add the sha256 "
        "that acquire prints to its dataset.toml"
    )


def test_the_advice_has_the_sha256_of_a_downloaded_archive(world: Path) -> None:
    write_dataset(world, ARCHIVE)
    write_raw(world, {})
    (world / "a.zip").write_bytes(b"archive")
    with ContentStore() as store:
        store.add_archive(world / "a.zip", "https://example.org/a.zip", "ab" * 32)
    assert f'sha256 = "{"ab" * 32}" to its dataset.toml' in error_of(world)


@pytest.mark.parametrize(
    "text",
    [
        'kind = "folder"\ndescription = "d"',
        'kind = "digits"\ndescription = "d"',
        'kind = "archive"\ndescription = "d"\npath = "a.zip"',
    ],
    ids=["folder", "digits", "archive"],
)
def test_images_without_urls_are_refused(world: Path, text: str) -> None:
    write_dataset(world, text)
    write_raw(world, {"name": "cat/1.jpg", "url": None}, {}, {"name": "cat/2.jpg", "url": None})
    assert error_of(world) == (
        f"{world / 'raw'} has 2 images without a URL, the first cat/1.jpg: only photographs "
        "with URLs can be pinned; keep the files that they came from"
    )


def test_a_data_set_without_dataset_toml_is_refused(world: Path) -> None:
    write_raw(world, {})
    assert "dataset.toml is missing" in error_of(world)


def test_missing_shards_are_an_error(world: Path) -> None:
    write_dataset(world)
    assert "has no shards" in error_of(world)
