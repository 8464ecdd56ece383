import gc
import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from pipeline.params import AcquireParams
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import ContentStore, StoredBody
from pipeline.stages.acquire.web.fetch_photos import fetch_all
from pipeline.stages.acquire.web.ordered_threads import LOOKAHEAD
from pipeline.stages.acquire.web.retry import Policy
from tests import ROOT
from tests.builders.params import ACQUIRE_PARAMS
from tests.fakes import faults
from tests.fakes.faults import always, every, first_of, header, once, redirect, status, throttled
from tests.fakes.flickr import FakeFlickr
from tests.fakes.photos import photos
from tests.fakes.wire import Wire, chunked, reply

CARS = photos("car", 60)
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256))
PARAMS = ACQUIRE_PARAMS.model_copy(update={"workers": 8})
POLICY = Policy(connect_timeout=5, read_timeout=5, attempts=3, pause=0.01)
HASTY = Policy(connect_timeout=1, read_timeout=0.3, attempts=3, pause=0.01)
"""For servers that are slow on purpose; POLICY tolerates a busy machine."""

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def fake() -> Iterator[FakeFlickr]:
    with FakeFlickr(CARS) as fake:
        yield fake


def list_photos(fake: FakeFlickr, number: int = len(CARS)) -> list[Photo]:
    return [Photo(url=fake.url(car.path("z")), label="car", id=car.id) for car in CARS[:number]]


def data_of(fake: FakeFlickr, number: int = 0) -> bytes:
    return fake.photo_bytes_of(CARS[number], "z")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fetch(
    photos: Iterable[Photo], params: AcquireParams = PARAMS, policy: Policy = POLICY
) -> list[bytes | SkipReason]:
    """The bytes of each photo, or why it failed."""
    with Client(params, policy) as client, ContentStore() as store:
        results = [result for _, result in fetch_all(photos, client, store, params, None)]
        return [
            result if isinstance(result, SkipReason) else store.read_photo(result)
            for result in results
        ]


def fetch_url(
    url: str, params: AcquireParams = PARAMS, policy: Policy = POLICY, pinned: str | None = None
) -> bytes | SkipReason:
    (result,) = fetch([Photo(url=url, label="car", sha256=pinned)], params, policy)
    return result


def close(results: Iterator[object]) -> None:
    assert isinstance(results, Generator)
    results.close()


def find_stored(url: str) -> StoredBody | None:
    with ContentStore() as store:
        return store.find_photo(url)


# Without faults.


def test_every_photograph_comes_in_the_order_of_the_list(fake: FakeFlickr) -> None:
    assert fetch(list_photos(fake)) == [fake.photo_bytes_of(car, "z") for car in CARS]


def test_the_photos_come_with_their_results(fake: FakeFlickr) -> None:
    with Client(PARAMS, POLICY) as client, ContentStore() as store:
        pairs = list(fetch_all(list_photos(fake), client, store, PARAMS, None))
    assert [photo for photo, _ in pairs] == list_photos(fake)


def test_the_order_does_not_depend_on_latency(fake: FakeFlickr) -> None:
    slow = {car.path("z"): faults.stall(0.02 * (number % 3)) for number, car in enumerate(CARS)}
    fake.plan = lambda _kind, _number, path: slow[path]
    assert fetch(list_photos(fake)) == [fake.photo_bytes_of(car, "z") for car in CARS]


def test_workers_fetch_concurrently(fake: FakeFlickr) -> None:
    fake.latency = 0.05
    start = time.monotonic()
    fetch(list_photos(fake, 40))
    assert time.monotonic() - start < 40 * 0.05


def test_an_empty_list_gives_no_results(fake: FakeFlickr) -> None:
    assert fetch([]) == []


def test_stored_photographs_are_not_requested_again(fake: FakeFlickr) -> None:
    first = fetch(list_photos(fake))
    assert fetch(list_photos(fake)) == first
    assert fake.completed == {car.path("z"): 1 for car in CARS}
    assert len(fake.requests) == len(CARS)


def test_stored_photographs_need_no_network(fake: FakeFlickr) -> None:
    first = fetch(list_photos(fake, 5))
    fake.plan = always("", faults.DROP)
    assert fetch(list_photos(fake, 5)) == first


def test_an_interrupted_fetch_is_not_repeated(
    fake: FakeFlickr,
) -> None:
    with Client(PARAMS, POLICY) as client, ContentStore() as store:
        results = fetch_all(list_photos(fake), client, store, PARAMS, None)
        for _ in range(20):
            next(results)
        close(results)
    fetch(list_photos(fake))
    # Each worker may have had a request in progress.
    assert fake.completed.total() <= len(CARS) + PARAMS.workers


def test_a_url_listed_twice_is_requested_once(fake: FakeFlickr) -> None:
    fake.latency = 0.02
    (photo,) = list_photos(fake, 1)
    assert fetch([photo] * 8) == [data_of(fake)] * 8
    assert fake.completed[CARS[0].path("z")] == 1


def test_a_stored_photograph_is_found_by_its_pinned_sha256(
    fake: FakeFlickr,
) -> None:
    fetch(list_photos(fake, 1))
    elsewhere = "http://nowhere.invalid/moved.jpg"
    assert fetch_url(elsewhere, pinned=sha256(data_of(fake))) == data_of(fake)
    assert len(fake.requests) == 1


def test_a_photograph_with_the_pinned_sha256_is_accepted(fake: FakeFlickr) -> None:
    url = list_photos(fake, 1)[0].url
    assert fetch_url(url, pinned=sha256(data_of(fake))) == data_of(fake)


def test_only_lookahead_photos_are_read_in_advance(fake: FakeFlickr) -> None:
    taken = count()

    def lazily() -> Iterator[Photo]:
        while True:
            next(taken)
            yield list_photos(fake, 1)[0]

    with Client(PARAMS, POLICY) as client, ContentStore() as store:
        results = fetch_all(lazily(), client, store, PARAMS, None)
        next(results)
        assert next(taken) <= PARAMS.workers * LOOKAHEAD + 1
        close(results)


# Reasons.


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(404), SkipReason.GONE),
        (status(403), SkipReason.FORBIDDEN),
        (status(400), SkipReason.REFUSED),
        (status(500), SkipReason.UNREACHABLE),
        (throttled(100_000), SkipReason.UNREACHABLE),
        (faults.STALL, SkipReason.UNREACHABLE),
        (faults.SHORT, SkipReason.UNREACHABLE),
        (faults.ENDLESS, SkipReason.TOO_LARGE),
        (faults.EMPTY, SkipReason.NOT_AN_IMAGE),
        (faults.HTML, SkipReason.NOT_AN_IMAGE),
        (faults.HTML_AS_JPEG, SkipReason.NOT_AN_IMAGE),
        (faults.NO_AI, SkipReason.ROBOTS),
        (redirect("file:///etc/hostname"), SkipReason.BAD_ADDRESS),
        (redirect("/pw/images/en-us/photo_unavailable.png"), SkipReason.GONE),
        (header("Location", "/elsewhere"), None),
    ],
)
def test_a_failed_photograph_has_a_reason_and_is_not_stored(
    fake: FakeFlickr, fault: faults.Fault, reason: SkipReason | None
) -> None:
    limits = PARAMS.model_copy(update={"max_file_megabytes": 0.1})
    fake.plan = always(CARS[0].path("z"), fault)
    url = list_photos(fake, 1)[0].url
    assert fetch_url(url, limits, HASTY) == (reason or data_of(fake))
    assert (find_stored(url) is None) == (reason is not None)


def test_failures_do_not_affect_other_photographs(fake: FakeFlickr) -> None:
    fake.plan = first_of(
        always(CARS[1].id, status(404)),
        always(CARS[3].id, faults.STALL),
        always(CARS[5].id, faults.HTML),
        always(CARS[7].id, faults.RESET),
    )
    results = fetch(list_photos(fake, 9), policy=HASTY)
    assert [result for result in results if isinstance(result, SkipReason)] == [
        SkipReason.GONE,
        SkipReason.UNREACHABLE,
        SkipReason.NOT_AN_IMAGE,
        SkipReason.UNREACHABLE,
    ]
    assert results[::2] == [data_of(fake, number) for number in range(0, 9, 2)]


@pytest.mark.parametrize(
    "url",
    [
        "photo.jpg",
        "file:///etc/hostname",
        "http://[::1",
        "http://h:port/",
        "http://*/a",
        " ",
        "http://\x00/",
        "http://a b/",
    ],
)
def test_a_bad_url_does_not_affect_other_photographs(fake: FakeFlickr, url: str) -> None:
    good = list_photos(fake, 2)
    results = fetch([good[0], Photo(url=url, label="car"), good[1]])
    assert results == [data_of(fake, 0), SkipReason.BAD_ADDRESS, data_of(fake, 1)]


@pytest.mark.parametrize("url", ["http://[::1", "photo.jpg", " ", "http://"])
def test_a_photo_with_a_bad_url_has_a_name(url: str) -> None:
    assert Photo(url=url, label="car").name.startswith("car/")


def test_a_private_address_is_a_reason(fake: FakeFlickr) -> None:
    limits = PARAMS.model_copy(update={"allow_private": False})
    assert fetch(list_photos(fake, 2), limits) == [SkipReason.PRIVATE_ADDRESS] * 2
    assert fake.requests == []


def test_a_photograph_that_was_removed_is_gone(fake: FakeFlickr) -> None:
    fake.removed = {CARS[0].id}
    url = list_photos(fake, 1)[0].url
    assert (fetch_url(url), find_stored(url)) == (SkipReason.GONE, None)
    assert [request.kind for request in fake.requests] == ["photo", "placeholder"]


def test_a_photograph_named_like_the_placeholder_is_accepted() -> None:
    with Wire(reply(JPEG)) as wire:
        assert fetch_url(wire.url("/photo_unavailable.jpg")) == JPEG


@pytest.mark.parametrize("megabytes", [0.010, 0.011])
def test_a_photograph_past_the_limit_is_too_large(fake: FakeFlickr, megabytes: float) -> None:
    fake.photo_bytes = 10_500
    limits = PARAMS.model_copy(update={"max_file_megabytes": megabytes})
    result = fetch_url(list_photos(fake, 1)[0].url, limits)
    assert result == (SkipReason.TOO_LARGE if megabytes < 0.0105 else data_of(fake))


# Bodies that are not images.


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"<?xml version='1.0'?>",
        b" \t\r\n<html>",
        b"\xef\xbb\xbf \r\n<html>",
        b"<",
        b"",
        b" " * 100_000 + b"<html>",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_web_page_is_not_an_image_whatever_its_content_type(body: bytes) -> None:
    with Wire(reply(body, "Content-Type: image/jpeg")) as wire:
        assert fetch_url(wire.url()) is SkipReason.NOT_AN_IMAGE
        assert find_stored(wire.url()) is None


@pytest.mark.parametrize("start", [b"\n", b"\xef\xbb\xbf", b" ", b"\xef"])
def test_a_web_page_in_chunks_is_not_an_image(start: bytes) -> None:
    page = start + (b"\xbb\xbf" if start == b"\xef" else b"")
    chunks = [page[:1], page[1:], b"<html>"] if page[1:] else [page, b"<html>"]
    with Wire(reply(chunked(*chunks), "Transfer-Encoding: chunked")) as wire:
        assert fetch_url(wire.url()) is SkipReason.NOT_AN_IMAGE


@pytest.mark.parametrize("kind", ["text/html", ""])
def test_an_image_is_accepted_whatever_its_content_type(kind: str) -> None:
    with Wire(reply(JPEG, f"Content-Type: {kind}")) as wire:
        assert fetch_url(wire.url()) == JPEG


# Pinned photographs.


def test_a_photograph_with_another_sha256_than_pinned_is_changed(fake: FakeFlickr) -> None:
    url = list_photos(fake, 1)[0].url
    assert fetch_url(url, pinned="0" * 64) is SkipReason.CHANGED
    assert find_stored(url) is None


def test_a_changed_photograph_is_not_retried(fake: FakeFlickr) -> None:
    fetch_url(list_photos(fake, 1)[0].url, pinned="0" * 64)
    assert len(fake.requests) == 1


def test_a_stored_photograph_with_another_sha256_is_not_used(fake: FakeFlickr) -> None:
    url = list_photos(fake, 1)[0].url
    fetch_url(url)
    assert fetch_url(url, pinned="0" * 64) is SkipReason.CHANGED
    assert fetch_url(url) == data_of(fake)


# Faults and interruptions.


def test_all_photographs_arrive_although_every_fifth_response_fails(fake: FakeFlickr) -> None:
    fake.plan = every(
        5,
        status(500),
        faults.DROP,
        faults.RESET,
        faults.SHORT,
        throttled(0),
        faults.cut(0),
        faults.DRIP,
        status(503),
        faults.stall(0.4),
    )
    patient = replace(HASTY, attempts=8)
    assert fetch(list_photos(fake), policy=patient) == [
        fake.photo_bytes_of(car, "z") for car in CARS
    ]
    assert set(fake.completed) == {car.path("z") for car in CARS}


def test_a_retried_photograph_is_not_requested_again(
    fake: FakeFlickr,
) -> None:
    fake.plan = once(CARS[0].id, status(503))
    fetch(list_photos(fake, 3))
    fetch(list_photos(fake, 3))
    assert [request.path for request in fake.requests].count(CARS[0].path("z")) == 2


def test_a_failed_photograph_is_requested_in_the_next_run(fake: FakeFlickr) -> None:
    fake.plan = always(CARS[0].id, status(404))
    assert fetch(list_photos(fake, 1)) == [SkipReason.GONE]
    fake.plan = None
    assert fetch(list_photos(fake, 1)) == [data_of(fake)]


def test_the_next_run_replaces_a_damaged_photograph(fake: FakeFlickr, root: Path) -> None:
    fetch(list_photos(fake, 2))
    (pack,) = (root / ".cache/acquire/packs").iterdir()
    pack.write_bytes(bytes(pack.stat().st_size))
    for number in range(2):
        with pytest.raises(Exception, match="fetch the lost"):
            fetch(list_photos(fake, 2)[number:][:1])
    assert fetch(list_photos(fake, 2)) == [data_of(fake, 0), data_of(fake, 1)]


def test_no_connection_is_left_open(fake: FakeFlickr) -> None:
    fake.plan = every(2, faults.RESET, status(404), faults.ENDLESS)
    fetch(list_photos(fake, 12), PARAMS.model_copy(update={"max_file_megabytes": 0.1}))
    gc.collect()  # an unclosed socket warns here, and warnings are errors


FETCH = """
import sys
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.web.fetch_photos import fetch_all
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import ContentStore
from pipeline.params import AcquireParams
params = AcquireParams(
    workers=4, per_host_per_second=0, max_missing_fraction=0, respect_robots=True,
    allow_private=True, max_gigabytes=1, max_file_megabytes=1,
)
photos = [Photo(url=url, label="car") for url in sys.argv[1:]]
with Client(params) as client, ContentStore() as store:
    for _, result in fetch_all(photos, client, store, params, None):
        print("photo", flush=True)
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_keeps_its_photographs_although_a_server_hangs(
    fake: FakeFlickr, ending: signal.Signals
) -> None:
    fake.plan = always(CARS[5].id, faults.STALL)
    urls = [photo.url for photo in list_photos(fake, 40)]
    with subprocess.Popen(
        [sys.executable, "-c", FETCH, *urls],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        for _ in range(5):
            assert process.stdout.readline() == "photo\n"
        deadline = time.monotonic() + 5
        while fake.completed.total() < 39 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)  # until the last one is stored
        process.send_signal(ending)
        try:
            process.communicate(timeout=2)
        finally:
            process.kill()
    fake.plan = None
    fetch(list_photos(fake, 40))
    assert fake.completed == {car.path("z"): 1 for car in CARS[:40]}


def test_two_sizes_of_a_photograph_are_two_photographs(fake: FakeFlickr) -> None:
    car = replace(CARS[0])
    urls = [fake.url(car.path(size)) for size in ("m", "z")]
    results = fetch([Photo(url=url, label="car") for url in urls])
    assert results == [fake.photo_bytes_of(car, "m"), fake.photo_bytes_of(car, "z")]


def test_stored_photographs_are_checked_with_the_params_of_this_run(fake: FakeFlickr) -> None:
    fake.plan = always("", faults.NO_AI)
    url = list_photos(fake, 1)[0].url
    ignore_robots = PARAMS.model_copy(update={"respect_robots": False})
    assert fetch_url(url, ignore_robots) == data_of(fake)
    assert fetch_url(url, PARAMS) is SkipReason.ROBOTS
    small = ignore_robots.model_copy(update={"max_file_megabytes": 0.001})
    assert fetch_url(url, small) is SkipReason.TOO_LARGE
    assert fetch_url(url, ignore_robots) == data_of(fake)
