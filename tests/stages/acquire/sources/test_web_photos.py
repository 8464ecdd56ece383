import gc
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core import atomic, shards
from pipeline.core.errors import PipelineError
from pipeline.params import AcquireParams, load_params
from pipeline.stages.acquire.dataset_toml import FlickrDataset, SearchTerms
from pipeline.stages.acquire.photo_list import COLUMNS
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources import web_photos
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import ContentStore
from pipeline.stages.acquire.web.rate_limit import Policy
from tests import ROOT
from tests.fakes.faults import (
    DROP,
    EMPTY,
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


def listing(folder: Path, rows: list[dict[str, str]]) -> Path:
    path = folder / "urls.csv"
    atomic.write_csv(path, COLUMNS, [[row.get(column, "") for column in COLUMNS] for row in rows])
    return path


def simple(fake: FakeFlickr, found: list[FakePhoto] = CATS) -> list[dict[str, str]]:
    return [
        {"url": fake.url(photo.path("c" if "c" in photo.sizes else "l")), "label": "cat"}
        for photo in found
    ]


def from_list(
    path: Path, licence: str | None = None, params: AcquireParams = PARAMS
) -> Iterator[RawImage | SkippedItem]:
    with (
        Client(params, Policy(pause=0.01, read_timeout=0.5, attempts=3)) as client,
        ContentStore() as store,
    ):
        yield from web_photos.from_list(path, licence, client, store, params)


def from_search(
    folder: Path, dataset: FlickrDataset = SEARCHED, params: AcquireParams = PARAMS
) -> Iterator[RawImage | SkippedItem]:
    with Client(params, Policy(pause=0.01, read_timeout=0.5)) as client, ContentStore() as store:
        yield from web_photos.from_search(dataset, folder, client, store, params)


def taken(found: Iterable[RawImage | SkippedItem]) -> list[RawImage]:
    return [each for each in found if isinstance(each, RawImage)]


def test_photographs_come_in_the_order_of_the_list(world: Path, fake: FakeFlickr) -> None:
    rows = simple(fake)[::-1]
    found = taken(from_list(listing(world, rows)))
    assert [image.url for image in found] == [row["url"] for row in rows]
    assert [image.data for image in found] == [
        fake.photo_bytes_of(photo, "c" if "c" in photo.sizes else "l") for photo in CATS[::-1]
    ]


def test_what_the_list_says_of_a_photograph_is_kept(world: Path, fake: FakeFlickr) -> None:
    said = simple(fake)[0] | {
        "id": "7",
        "split": "val",
        "page": "https://p/7",
        "title": "T",
        "owner": "Jo",
        "group": "jo@1",
        "licence": "CC BY 4.0",
    }
    (image,) = taken(from_list(listing(world, [said]), "of the set"))
    assert {key: value for key, value in image.row().items() if key not in {"id", "bytes"}} == {
        "name": "cat/7",
        "label": "cat",
        "split": "val",
        "page_url": "https://p/7",
        "title": "T",
        "owner": "Jo",
        "group": "jo@1",
        "licence": "CC BY 4.0",
        "url": said["url"],
    }


def test_a_photograph_without_a_licence_has_that_of_the_set(world: Path, fake: FakeFlickr) -> None:
    rows = simple(fake)[:2]
    rows[0]["licence"] = "its own"
    found = taken(from_list(listing(world, rows), "of the set"))
    assert [image.licence for image in found] == ["its own", "of the set"]


def test_the_id_of_a_row_is_the_digest_of_what_came(world: Path, fake: FakeFlickr) -> None:
    (image,) = taken(from_list(listing(world, simple(fake)[:1])))
    assert image.row()["id"] == RawImage("", "", image.data).row()["id"]


def test_one_address_may_stand_in_the_list_twice(world: Path, fake: FakeFlickr) -> None:
    rows = simple(fake)[:1] * 2
    assert len(taken(from_list(listing(world, rows)))) == 2


def test_what_is_gone_is_a_row_in_its_place(world: Path, fake: FakeFlickr) -> None:
    fake.removed.add(CATS[1].id)
    rows = simple(fake)
    rows[2]["url"] = fake.url("/65535/nothing.jpg")
    found = list(from_list(listing(world, rows)))
    assert [isinstance(each, SkippedItem) for each in found] == [False, True, True] + [False] * 9
    assert found[1:3] == [
        SkippedItem(
            f"cat/{CATS[1].path('c').split('/')[-1]}", SkipReason.GONE, "cat", rows[1]["url"]
        ),
        SkippedItem("cat/nothing.jpg", SkipReason.GONE, "cat", rows[2]["url"]),
    ]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(403), SkipReason.FORBIDDEN),
        (status(418), SkipReason.REFUSED),
        (HTML, SkipReason.NOT_AN_IMAGE),
        (EMPTY, SkipReason.NOT_AN_IMAGE),
        (NO_AI, SkipReason.ROBOTS),
    ],
    ids=["403", "418", "html", "empty", "robots"],
)
def test_a_photograph_that_is_not_given_has_a_reason(
    world: Path, fake: FakeFlickr, fault: Fault, reason: SkipReason
) -> None:
    rows = simple(fake)
    fake.plan = lambda _kind, _number, path: fault if rows[3]["url"].endswith(path) else None
    found = list(from_list(listing(world, rows)))
    assert [each.reason for each in found if isinstance(each, SkippedItem)] == [reason]


@pytest.mark.parametrize(
    "url",
    ["ftp://example.org/1.jpg", "nothing", "http://[half/1.jpg", "http:///1.jpg", "file:///a"],
)
def test_an_address_that_is_none_is_a_row_and_no_crash(
    world: Path, fake: FakeFlickr, url: str
) -> None:
    rows = simple(fake)[:2]
    rows[0]["url"] = url
    skipped, _ = from_list(listing(world, rows))
    assert isinstance(skipped, SkippedItem)
    assert (skipped.reason, skipped.url) == (SkipReason.BAD_ADDRESS, url)


def test_a_photograph_with_other_bytes_than_pinned_is_left_out(
    world: Path, fake: FakeFlickr
) -> None:
    rows = simple(fake)[:3]
    rows[1]["sha256"] = "0" * 64
    found = list(from_list(listing(world, rows)))
    assert isinstance(found[1], SkippedItem)
    assert found[1].reason is SkipReason.CHANGED


def test_a_private_address_is_a_row_where_it_is_not_allowed(world: Path, fake: FakeFlickr) -> None:
    limits = limited(0.99).model_copy(update={"allow_private": False})
    found = from_list(listing(world, simple(fake)), params=limits)
    assert next(found) == SkippedItem(
        f"cat/{CATS[0].path('c').split('/')[-1]}",
        SkipReason.PRIVATE_ADDRESS,
        "cat",
        fake.url(CATS[0].path("c")),
    )


def test_faults_that_pass_leave_no_trace(world: Path, fake: FakeFlickr) -> None:
    path = listing(world, simple(fake))
    clean = list(from_list(path))
    (world / ".cache").rename(world / "other")
    fake.plan = every(2, status(500), DROP, status(429))
    assert list(from_list(path)) == clean


def partly_gone(world: Path, fake: FakeFlickr, total: int, missing: int) -> Path:
    """The first ones are no addresses, the others are one and the same."""
    bad = [{"url": "ftp://a/1.jpg", "label": "cat"}] * missing
    return listing(world, bad + simple(fake)[:1] * (total - missing))


def limited(fraction: float) -> AcquireParams:
    return PARAMS.model_copy(update={"max_missing_fraction": fraction})


def until_refused(found: Iterable[RawImage | SkippedItem]) -> list[RawImage | SkippedItem]:
    seen = []
    try:
        for each in found:
            seen.append(each)  # noqa: PERF402 - until it raises
    except PipelineError:
        return seen
    raise AssertionError("it was not refused")


@pytest.mark.parametrize(
    ("fraction", "total", "missing"),
    [(0.0, 5, 0), (0.25, 12, 3), (0.99, 12, 11), (0.1, 30, 3), (0.29, 100, 29), (0.57, 100, 57)],
)
def test_exactly_the_allowed_share_may_be_gone(
    world: Path, fake: FakeFlickr, fraction: float, total: int, missing: int
) -> None:
    found = list(from_list(partly_gone(world, fake, total, missing), params=limited(fraction)))
    assert len(taken(found)) == total - missing


@pytest.mark.parametrize(
    ("fraction", "total", "missing"), [(0.0, 5, 1), (0.25, 12, 4), (0.1, 30, 4), (0.29, 100, 30)]
)
def test_one_more_than_the_allowed_share_may_not_be_gone(
    world: Path, fake: FakeFlickr, fraction: float, total: int, missing: int
) -> None:
    path = partly_gone(world, fake, total, missing)
    with pytest.raises(PipelineError, match=f"at least {missing} of {total} photographs"):
        list(from_list(path, params=limited(fraction)))


def test_what_is_missing_is_counted_in_the_sentence(world: Path, fake: FakeFlickr) -> None:
    fake.removed.update({CATS[0].id, CATS[1].id})
    rows = simple(fake)
    rows[2]["url"] = "ftp://a/1.jpg"
    path = listing(world, rows)
    with pytest.raises(PipelineError) as caught:
        list(from_list(path, params=limited(0.2)))
    assert str(caught.value) == (
        "at least 3 of 12 photographs cannot be fetched (2 gone, 1 bad_address), past "
        f"acquire.max_missing_fraction=0.2: raise it, or remove from {path} what skipped.csv lists"
    )


def test_all_that_is_missing_so_far_is_told_before_the_refusal(
    world: Path, fake: FakeFlickr
) -> None:
    path = partly_gone(world, fake, 12, 6)
    assert len(until_refused(from_list(path, params=limited(0.25)))) == 4


def test_after_a_refusal_nobody_writes_into_the_store(world: Path, fake: FakeFlickr) -> None:
    """Threads that still wait for an answer when the stage fails."""
    fake.plan = always("", stall(0.1))
    until_refused(from_list(partly_gone(world, fake, 12, 6), params=limited(0.25)))
    time.sleep(0.3)
    gc.collect()
    assert list((world / ".cache/acquire/packs").iterdir()) == []


def test_a_list_of_nothing_is_refused(world: Path) -> None:
    path = listing(world, [])
    with pytest.raises(PipelineError, match="lists no photographs"):
        next(from_list(path))


def test_a_wrong_row_is_refused_before_anything_is_asked(world: Path, fake: FakeFlickr) -> None:
    path = listing(world, [*simple(fake), {"url": "http://a/1.jpg"}])
    with pytest.raises(PipelineError, match="label is missing"):
        next(from_list(path))
    assert fake.requests == []


def test_what_is_in_the_store_is_not_asked_again(world: Path, fake: FakeFlickr) -> None:
    path = listing(world, simple(fake))
    first = list(from_list(path))
    asked = len(fake.requests)
    assert list(from_list(path)) == first
    assert len(fake.requests) == asked


def test_a_list_is_fetched_little_by_little(world: Path) -> None:
    """The first image is there long before the last is asked for."""
    with FakeFlickr(photos("bird", 300), photo_bytes=500) as fake:
        rows = simple(fake, photos("bird", 300))
        found = from_list(listing(world, rows), params=PARAMS.model_copy(update={"workers": 1}))
        next(found)
        assert len(fake.requests) < 50
        found.close()  # type: ignore[attr-defined]


def test_images_of_a_list_become_shards_with_all_facts(world: Path, fake: FakeFlickr) -> None:
    path = listing(world, [row | {"title": "T", "owner": "Jo"} for row in simple(fake)])
    shards.write(world / "raw", shards.RAW, (image.row() for image in taken(from_list(path))))
    table = shards.columns(world / "raw", ["title", "owner", "url"])
    assert table.to_pylist()[0] == {
        "title": "T",
        "owner": "Jo",
        "url": fake.url(CATS[0].path("c")),
    }


def counts(found: list[RawImage]) -> dict[tuple[str, str | None], int]:
    keys = [(image.label, image.split) for image in found]
    return {key: keys.count(key) for key in dict.fromkeys(keys)}


WANTED = {
    ("car", "train"): 9,
    ("car", "test"): 4,
    ("bicycle", "train"): 9,
    ("bicycle", "test"): 4,
}


def test_a_search_gives_exactly_what_is_wanted(world: Path, fake: FakeFlickr) -> None:
    found = list(from_search(world))
    images = taken(found)
    assert len(found) == len(images)
    assert counts(images) == WANTED
    assert [image.label for image in images] == ["car"] * 13 + ["bicycle"] * 13


def test_a_search_tells_what_flickr_says_of_a_photograph(world: Path, fake: FakeFlickr) -> None:
    image = taken(from_search(world))[0]
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


def test_a_search_fills_the_places_of_what_is_gone(world: Path, fake: FakeFlickr) -> None:
    fake.removed.update(photo.id for photo in CARS[::3])
    found = list(from_search(world))
    assert counts(taken(found)) == WANTED
    skipped = [each for each in found if isinstance(each, SkippedItem)]
    assert {(each.reason, each.label) for each in skipped} == {(SkipReason.GONE, "car")}
    assert {each.name.removeprefix("car/") for each in skipped} <= fake.removed


def test_faults_that_pass_do_not_change_what_a_search_gives(world: Path, fake: FakeFlickr) -> None:
    clean = list(from_search(world))
    (world / ".cache").rename(world / "other")
    fake.plan = every(3, status(500), DROP, status(503), status(429))
    assert list(from_search(world)) == clean


def test_two_workers_or_twenty_give_the_same_photographs(world: Path, fake: FakeFlickr) -> None:
    fake.removed.update(photo.id for photo in CARS[::4])
    found = []
    for workers in (1, 20):
        found.append(
            list(from_search(world, params=PARAMS.model_copy(update={"workers": workers})))
        )
        (world / ".cache").rename(world / str(workers))
    assert found[0] == found[1]


def test_a_search_that_finds_too_few_is_refused(world: Path, fake: FakeFlickr) -> None:
    dataset = SEARCHED.model_copy(update={"classes": {"cat": SearchTerms(text="cat")}})
    dataset = dataset.model_copy(update={"wanted": {"train": 25}})
    with pytest.raises(PipelineError) as caught:
        list(from_search(world, dataset))
    assert str(caught.value) == (
        "the search gives 12 of 25 cat (left out: none), past acquire.max_missing_fraction=0.5: "
        f"search for more or want fewer in {world}/dataset.toml, or raise it"
    )


def test_a_search_that_finds_almost_enough_is_taken_and_said(
    world: Path, fake: FakeFlickr, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = SEARCHED.model_copy(
        update={"classes": {"cat": SearchTerms(text="cat")}, "wanted": {"train": len(CATS) + 1}}
    )
    assert len(taken(from_search(world, dataset))) == len(CATS)
    assert "the search gives 12 of" in capsys.readouterr().out


def test_a_search_that_finds_nothing_is_refused(world: Path, fake: FakeFlickr) -> None:
    dataset = SEARCHED.model_copy(update={"classes": {"yeti": SearchTerms(text="yeti")}})
    with pytest.raises(PipelineError, match="the search gives 0 of 13 yeti"):
        list(from_search(world, dataset))


def test_what_was_refused_is_told_before_the_refusal(world: Path, fake: FakeFlickr) -> None:
    fake.removed.update(photo.id for photo in CATS[:6])
    dataset = SEARCHED.model_copy(update={"classes": {"cat": SearchTerms(text="cat")}})
    found = until_refused(from_search(world, dataset))
    assert {each.reason for each in found if isinstance(each, SkippedItem)} == {SkipReason.GONE}
    assert taken(found) == []


def test_an_answer_that_is_no_json_is_asked_for_again(world: Path, fake: FakeFlickr) -> None:
    fake.plan = once("flickr.photos.search", MALFORMED)
    assert counts(taken(from_search(world))) == WANTED


def test_a_search_without_a_key_says_where_to_get_one(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLICKR_API_KEY", raising=False)
    with pytest.raises(PipelineError, match="needs FLICKR_API_KEY and FLICKR_API_SECRET"):
        next(from_search(world))


def test_a_photograph_of_two_classes_is_told_and_in_neither(world: Path, fake: FakeFlickr) -> None:
    both = replace(CARS[0], id="1234567", keywords=frozenset({"car", "bicycle"}))
    fake.search.photos.insert(0, both)
    found = list(from_search(world))
    assert counts(taken(found)) == WANTED
    skipped = [each for each in found if isinstance(each, SkippedItem)]
    assert {(each.name, each.reason) for each in skipped} <= {
        ("car/1234567", SkipReason.TWO_CLASSES),
        ("bicycle/1234567", SkipReason.TWO_CLASSES),
    }
    assert "car/1234567" not in {image.name for image in taken(found)}
    assert skipped
