import gc
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core import atomic, shards
from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import FlickrDataset, SearchTerms
from pipeline.params import AcquireParams, load_params
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.photo_list import COLUMNS
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources import web_photos
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import ContentStore
from pipeline.stages.acquire.web.retry import Policy
from tests import ROOT
from tests.fakes.faults import (
    DROP,
    HTML,
    MALFORMED,
    NO_AI,
    Fault,
    always,
    every,
    once,
    stall,
    status,
)
from tests.fakes.flickr import KEY, SECRET, FakeFlickr
from tests.fakes.photos import FakePhoto, photos

PARAMS = load_params(ROOT / "params.yaml").acquire.model_copy(
    update={"workers": 4, "max_missing_fraction": 0.5}
    | {"allow_private": True, "per_host_per_second": 0}
)
CATS = photos("cat", 12)
CARS, BICYCLES = photos("car", 120), photos("bicycle", 120)
SEARCHED = FlickrDataset(
    kind="flickr",
    description="d",
    licence="of the set",
    seed=1,
    classes={"car": SearchTerms(text="car"), "bicycle": SearchTerms(tags=("bicycle",))},
    wanted={"train": 9, "test": 4},
)


@pytest.fixture(autouse=True)
def _alone(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeFlickr]:
    with FakeFlickr([*CATS, *CARS, *BICYCLES], photo_bytes=2000) as fake:
        monkeypatch.setenv("FLICKR_API_KEY", KEY)
        monkeypatch.setenv("FLICKR_API_SECRET", SECRET)
        monkeypatch.setenv("FLICKR_API_URL", fake.api_url)
        yield fake


def write_list(folder: Path, rows: list[dict[str, str]]) -> Path:
    path = folder / "urls.csv"
    atomic.write_csv(path, COLUMNS, [[row.get(column, "") for column in COLUMNS] for row in rows])
    return path


def make_rows(fake: FakeFlickr, photos: list[FakePhoto] = CATS) -> list[dict[str, str]]:
    return [
        {"url": fake.url(photo.path("c" if "c" in photo.sizes else "l")), "label": "cat"}
        for photo in photos
    ]


def from_list(
    path: Path, licence: str | None = None, params: AcquireParams = PARAMS
) -> Iterator[RawImage | SkippedItem]:
    with (
        Client(params, Policy(pause=0.01, read_timeout=0.5, attempts=3)) as client,
        ContentStore() as store,
    ):
        yield from web_photos.from_list(path, licence, client, store, params, ClassNames())


def from_search(
    folder: Path, dataset: FlickrDataset = SEARCHED, params: AcquireParams = PARAMS
) -> Iterator[RawImage | SkippedItem]:
    with Client(params, Policy(pause=0.01, read_timeout=0.5)) as client, ContentStore() as store:
        yield from web_photos.from_search(dataset, folder, client, store, params)


def images_of(items: Iterable[RawImage | SkippedItem]) -> list[RawImage]:
    return [item for item in items if isinstance(item, RawImage)]


def skipped_of(items: Iterable[RawImage | SkippedItem]) -> list[SkippedItem]:
    return [item for item in items if isinstance(item, SkippedItem)]


def test_photographs_come_in_the_order_of_the_list(world: Path, fake: FakeFlickr) -> None:
    rows = make_rows(fake)[::-1]
    images = images_of(from_list(write_list(world, rows)))
    assert [image.url for image in images] == [row["url"] for row in rows]
    assert [image.data for image in images] == [
        fake.photo_bytes_of(photo, "c" if "c" in photo.sizes else "l") for photo in CATS[::-1]
    ]


def test_an_image_has_the_columns_of_its_row(world: Path, fake: FakeFlickr) -> None:
    row = make_rows(fake)[0] | {
        "id": "7",
        "split": "val",
        "page": "https://p/7",
        "title": "T",
        "owner": "Jo",
        "group": "jo@1",
        "licence": "CC BY 4.0",
    }
    (image,) = images_of(from_list(write_list(world, [row]), "of the set"))
    assert {key: value for key, value in image.row().items() if key not in {"id", "bytes"}} == {
        "name": "cat/7",
        "label": "cat",
        "split": "val",
        "page_url": "https://p/7",
        "title": "T",
        "owner": "Jo",
        "group": "jo@1",
        "licence": "CC BY 4.0",
        "url": row["url"],
    }


def test_without_a_licence_that_of_the_data_set_is_used(world: Path, fake: FakeFlickr) -> None:
    rows = make_rows(fake)[:2]
    rows[0]["licence"] = "its own"
    images = images_of(from_list(write_list(world, rows), "of the set"))
    assert [image.licence for image in images] == ["its own", "of the set"]


def test_the_id_of_an_image_is_the_digest_of_its_bytes(world: Path, fake: FakeFlickr) -> None:
    (image,) = images_of(from_list(write_list(world, make_rows(fake)[:1])))
    assert image.row()["id"] == RawImage("", "", image.data).row()["id"]


def test_a_url_may_be_listed_twice(world: Path, fake: FakeFlickr) -> None:
    rows = make_rows(fake)[:1] * 2
    assert len(images_of(from_list(write_list(world, rows)))) == 2


def test_a_photograph_that_is_gone_is_skipped_in_its_place(world: Path, fake: FakeFlickr) -> None:
    fake.removed.add(CATS[1].id)
    rows = make_rows(fake)
    rows[2]["url"] = fake.url("/65535/nothing.jpg")
    items = list(from_list(write_list(world, rows)))
    assert [isinstance(item, SkippedItem) for item in items] == [False, True, True] + [False] * 9
    assert items[1:3] == [
        SkippedItem(
            f"cat/{CATS[1].path('c').split('/')[-1]}", SkipReason.GONE, "cat", rows[1]["url"]
        ),
        SkippedItem("cat/nothing.jpg", SkipReason.GONE, "cat", rows[2]["url"]),
    ]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(403), SkipReason.FORBIDDEN),
        (HTML, SkipReason.NOT_AN_IMAGE),
        (NO_AI, SkipReason.ROBOTS),
    ],
    ids=["403", "html", "robots"],
)
def test_a_skipped_photograph_has_a_reason(
    world: Path, fake: FakeFlickr, fault: Fault, reason: SkipReason
) -> None:
    rows = make_rows(fake)
    fake.plan = lambda _kind, _number, path: fault if rows[3]["url"].endswith(path) else None
    items = list(from_list(write_list(world, rows)))
    assert [item.reason for item in skipped_of(items)] == [reason]


@pytest.mark.parametrize(
    "url",
    ["ftp://example.org/1.jpg", "nothing", "http://[half/1.jpg"],
)
def test_an_invalid_url_is_skipped(world: Path, fake: FakeFlickr, url: str) -> None:
    rows = make_rows(fake)[:2]
    rows[0]["url"] = url
    skipped, _ = from_list(write_list(world, rows))
    assert isinstance(skipped, SkippedItem)
    assert (skipped.reason, skipped.url) == (SkipReason.BAD_ADDRESS, url)


def test_a_photograph_with_another_sha256_than_pinned_is_skipped(
    world: Path, fake: FakeFlickr
) -> None:
    rows = make_rows(fake)[:3]
    rows[1]["sha256"] = "0" * 64
    items = list(from_list(write_list(world, rows)))
    assert isinstance(items[1], SkippedItem)
    assert items[1].reason is SkipReason.CHANGED


def test_a_private_address_is_skipped(world: Path, fake: FakeFlickr) -> None:
    params = max_missing(0.99).model_copy(update={"allow_private": False})
    items = from_list(write_list(world, make_rows(fake)), params=params)
    assert next(items) == SkippedItem(
        f"cat/{CATS[0].path('c').split('/')[-1]}",
        SkipReason.PRIVATE_ADDRESS,
        "cat",
        fake.url(CATS[0].path("c")),
    )


def test_transient_faults_do_not_change_a_list(world: Path, fake: FakeFlickr) -> None:
    path = write_list(world, make_rows(fake))
    clean = list(from_list(path))
    (world / ".cache").rename(world / "other")
    fake.plan = every(2, status(500), DROP, status(429))
    assert list(from_list(path)) == clean


def write_partial_list(world: Path, fake: FakeFlickr, total: int, missing: int) -> Path:
    """A list whose first URLs are invalid and whose other URLs are all the same."""
    bad = [{"url": "ftp://a/1.jpg", "label": "cat"}] * missing
    return write_list(world, bad + make_rows(fake)[:1] * (total - missing))


def max_missing(fraction: float) -> AcquireParams:
    return PARAMS.model_copy(update={"max_missing_fraction": fraction})


def read_until_error(items: Iterable[RawImage | SkippedItem]) -> list[RawImage | SkippedItem]:
    before = []
    try:
        for item in items:
            before.append(item)  # noqa: PERF402 - until it raises
    except PipelineError:
        return before
    raise AssertionError("no error")


@pytest.mark.parametrize(
    ("fraction", "total", "missing"),
    [(0.0, 5, 0), (0.25, 12, 3), (0.29, 100, 29)],
)
def test_max_missing_fraction_is_inclusive(
    world: Path, fake: FakeFlickr, fraction: float, total: int, missing: int
) -> None:
    items = list(
        from_list(write_partial_list(world, fake, total, missing), params=max_missing(fraction))
    )
    assert len(images_of(items)) == total - missing


@pytest.mark.parametrize(
    ("fraction", "total", "missing"), [(0.0, 5, 1), (0.25, 12, 4), (0.29, 100, 30)]
)
def test_one_more_than_max_missing_fraction_is_an_error(
    world: Path, fake: FakeFlickr, fraction: float, total: int, missing: int
) -> None:
    path = write_partial_list(world, fake, total, missing)
    with pytest.raises(PipelineError, match=f"at least {missing} of {total} photographs"):
        list(from_list(path, params=max_missing(fraction)))


def test_the_error_counts_the_reasons(world: Path, fake: FakeFlickr) -> None:
    fake.removed.update({CATS[0].id, CATS[1].id})
    rows = make_rows(fake)
    rows[2]["url"] = "ftp://a/1.jpg"
    path = write_list(world, rows)
    with pytest.raises(PipelineError) as caught:
        list(from_list(path, params=max_missing(0.2)))
    assert str(caught.value) == (
        "at least 3 of 12 photographs cannot be fetched (2 gone, 1 bad_address), past "
        f"acquire.max_missing_fraction=0.2: raise it, or remove from {path} what skipped.csv lists"
    )


def test_skipped_items_are_yielded_before_the_error(world: Path, fake: FakeFlickr) -> None:
    path = write_partial_list(world, fake, 12, 6)
    assert len(read_until_error(from_list(path, params=max_missing(0.25)))) == 4


def test_nothing_is_stored_after_the_error(world: Path, fake: FakeFlickr) -> None:
    """Threads may still wait for a response when the stage fails."""
    fake.plan = always("", stall(0.1))
    read_until_error(from_list(write_partial_list(world, fake, 12, 6), params=max_missing(0.25)))
    time.sleep(0.3)
    gc.collect()
    assert list((world / ".cache/acquire/packs").iterdir()) == []


def test_an_empty_list_is_refused(world: Path) -> None:
    path = write_list(world, [])
    with pytest.raises(PipelineError, match="lists no photographs"):
        next(from_list(path))


def test_an_invalid_row_is_refused_before_any_request(world: Path, fake: FakeFlickr) -> None:
    path = write_list(world, [*make_rows(fake), {"url": "http://a/1.jpg"}])
    with pytest.raises(PipelineError, match="label is missing"):
        next(from_list(path))
    assert fake.requests == []


def test_stored_photographs_are_not_requested_again(world: Path, fake: FakeFlickr) -> None:
    path = write_list(world, make_rows(fake))
    first = list(from_list(path))
    requests = len(fake.requests)
    assert list(from_list(path)) == first
    assert len(fake.requests) == requests


def test_a_list_is_fetched_lazily(world: Path) -> None:
    """The first image is yielded long before the last is requested."""
    with FakeFlickr(photos("bird", 300), photo_bytes=500) as fake:
        rows = make_rows(fake, photos("bird", 300))
        items = from_list(write_list(world, rows), params=PARAMS.model_copy(update={"workers": 1}))
        next(items)
        assert len(fake.requests) < 50
        items.close()  # type: ignore[attr-defined]


def test_images_of_a_list_become_shards_with_all_columns(world: Path, fake: FakeFlickr) -> None:
    path = write_list(world, [row | {"title": "T", "owner": "Jo"} for row in make_rows(fake)])
    shards.write(world / "raw", shards.RAW, (image.row() for image in images_of(from_list(path))))
    table = shards.columns(world / "raw", ["title", "owner", "url"])
    assert table.to_pylist()[0] == {
        "title": "T",
        "owner": "Jo",
        "url": fake.url(CATS[0].path("c")),
    }


def counts(images: list[RawImage]) -> dict[tuple[str, str | None], int]:
    keys = [(image.label, image.split) for image in images]
    return {key: keys.count(key) for key in dict.fromkeys(keys)}


WANTED = {
    ("car", "train"): 9,
    ("car", "test"): 4,
    ("bicycle", "train"): 9,
    ("bicycle", "test"): 4,
}


def test_a_search_gives_the_wanted_numbers(world: Path, fake: FakeFlickr) -> None:
    items = list(from_search(world))
    images = images_of(items)
    assert len(items) == len(images)
    assert counts(images) == WANTED
    assert [image.label for image in images] == ["car"] * 13 + ["bicycle"] * 13


def test_an_image_has_the_metadata_of_flickr(world: Path, fake: FakeFlickr) -> None:
    image = images_of(from_search(world))[0]
    photo = next(photo for photo in CARS if photo.id in image.name)
    size = "c" if "c" in photo.sizes else "z"
    assert vars(image) == {
        "name": f"car/{photo.id}",
        "label": "car",
        "data": fake.photo_bytes_of(photo, size),
        "split": image.split,
        "licence": image.licence,
        "group": photo.owner,
        "owner": photo.ownername,
        "title": photo.title,
        "url": fake.url(photo.path(size)),
        "page_url": f"https://www.flickr.com/photos/{photo.owner}/{photo.id}/",
        "sha256": image.row()["id"],
    }
    assert image.licence != "of the set"


def test_a_search_gives_the_same_photographs_twice(world: Path, fake: FakeFlickr) -> None:
    first = list(from_search(world))
    (world / ".cache").rename(world / "other")
    assert list(from_search(world)) == first


def test_a_search_replaces_photographs_that_are_gone(world: Path, fake: FakeFlickr) -> None:
    fake.removed.update(photo.id for photo in CARS[::3])
    items = list(from_search(world))
    assert counts(images_of(items)) == WANTED
    skipped = skipped_of(items)
    assert {(item.reason, item.label) for item in skipped} == {(SkipReason.GONE, "car")}
    assert {item.name.removeprefix("car/") for item in skipped} <= fake.removed


def test_transient_faults_do_not_change_a_search(world: Path, fake: FakeFlickr) -> None:
    clean = list(from_search(world))
    (world / ".cache").rename(world / "other")
    fake.plan = every(3, status(500), DROP, status(503), status(429))
    assert list(from_search(world)) == clean


def test_the_number_of_workers_does_not_change_the_images(world: Path, fake: FakeFlickr) -> None:
    fake.removed.update(photo.id for photo in CARS[::4])
    results = []
    for workers in (1, 20):
        results.append(
            list(from_search(world, params=PARAMS.model_copy(update={"workers": workers})))
        )
        (world / ".cache").rename(world / str(workers))
    assert results[0] == results[1]


def test_a_search_with_too_few_results_is_an_error(world: Path, fake: FakeFlickr) -> None:
    dataset = SEARCHED.model_copy(update={"classes": {"cat": SearchTerms(text="cat")}})
    dataset = dataset.model_copy(update={"wanted": {"train": 25}})
    with pytest.raises(PipelineError) as caught:
        list(from_search(world, dataset))
    assert str(caught.value) == (
        "the search gives 12 of 25 cat (left out: none), past acquire.max_missing_fraction=0.5: "
        f"search for more or want fewer in {world}/dataset.toml, or raise it"
    )


def test_a_search_with_almost_enough_results_prints_a_message(
    world: Path, fake: FakeFlickr, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = SEARCHED.model_copy(
        update={"classes": {"cat": SearchTerms(text="cat")}, "wanted": {"train": len(CATS) + 1}}
    )
    assert len(images_of(from_search(world, dataset))) == len(CATS)
    assert "the search gives 12 of" in capsys.readouterr().err


def test_a_search_without_results_is_an_error(world: Path, fake: FakeFlickr) -> None:
    dataset = SEARCHED.model_copy(update={"classes": {"yeti": SearchTerms(text="yeti")}})
    with pytest.raises(PipelineError, match="the search gives 0 of 13 yeti"):
        list(from_search(world, dataset))


def test_rejected_photographs_are_yielded_before_the_error(world: Path, fake: FakeFlickr) -> None:
    fake.removed.update(photo.id for photo in CATS[:6])
    dataset = SEARCHED.model_copy(update={"classes": {"cat": SearchTerms(text="cat")}})
    items = read_until_error(from_search(world, dataset))
    assert {item.reason for item in skipped_of(items)} == {SkipReason.GONE}
    assert images_of(items) == []


def test_a_malformed_response_is_retried(world: Path, fake: FakeFlickr) -> None:
    fake.plan = once("flickr.photos.search", MALFORMED)
    assert counts(images_of(from_search(world))) == WANTED


def test_a_search_without_a_key_is_an_error(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLICKR_API_KEY", raising=False)
    with pytest.raises(PipelineError, match="needs FLICKR_API_KEY and FLICKR_API_SECRET"):
        next(from_search(world))


def test_a_photograph_of_two_classes_is_skipped(world: Path, fake: FakeFlickr) -> None:
    both = replace(CARS[0], id="1234567", keywords=frozenset({"car", "bicycle"}))
    fake.search.photos.insert(0, both)
    items = list(from_search(world))
    assert counts(images_of(items)) == WANTED
    skipped = skipped_of(items)
    assert {(item.name, item.reason) for item in skipped} <= {
        ("car/1234567", SkipReason.TWO_CLASSES),
        ("bicycle/1234567", SkipReason.TWO_CLASSES),
    }
    assert "car/1234567" not in {image.name for image in images_of(items)}
    assert skipped
