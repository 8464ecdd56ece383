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
from pipeline.stages.acquire.web.rate_limit import Policy
from tests import ROOT
from tests.fakes import faults
from tests.fakes.faults import always, every, first_of, header, once, redirect, status, throttled
from tests.fakes.flickr import FakeFlickr
from tests.fakes.photos import photos
from tests.fakes.wire import Wire, chunked, reply

CARS = photos("car", 60)
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256))
PARAMS = AcquireParams(
    workers=8,
    per_host_per_second=0,
    max_missing_fraction=0,
    respect_robots=True,
    allow_private=True,
    max_gigabytes=1,
    max_file_megabytes=1,
)
POLICY = Policy(connect_timeout=5, read_timeout=5, attempts=3, pause=0.01)
HASTY = Policy(connect_timeout=1, read_timeout=0.3, attempts=3, pause=0.01)
"""For servers that are slow on purpose; the others may be so because the machine is."""

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def fake() -> Iterator[FakeFlickr]:
    with FakeFlickr(CARS) as fake:
        yield fake


def listed(fake: FakeFlickr, number: int = len(CARS)) -> list[Photo]:
    return [Photo(url=fake.url(car.path("z")), label="car", id=car.id) for car in CARS[:number]]


def data_of(fake: FakeFlickr, number: int = 0) -> bytes:
    return fake.photo_bytes_of(CARS[number], "z")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fetch(
    wanted: Iterable[Photo], params: AcquireParams = PARAMS, policy: Policy = POLICY
) -> list[bytes | SkipReason]:
    """The bytes of each photo, or why there are none."""
    with Client(params, policy) as client, ContentStore() as store:
        results = [result for _, result in fetch_all(wanted, client, store, params, None)]
        return [
            each if isinstance(each, SkipReason) else store.read_photo(each) for each in results
        ]


def fetch_one(
    url: str, params: AcquireParams = PARAMS, policy: Policy = POLICY, pinned: str | None = None
) -> bytes | SkipReason:
    (result,) = fetch([Photo(url=url, label="car", sha256=pinned)], params, policy)
    return result


def close(results: Iterator[object]) -> None:
    assert isinstance(results, Generator)
    results.close()


def kept(url: str) -> StoredBody | None:
    with ContentStore() as store:
        return store.find_photo(url)


# All goes well.


def test_every_photograph_comes_in_the_order_of_the_list(fake: FakeFlickr) -> None:
    assert fetch(listed(fake)) == [fake.photo_bytes_of(car, "z") for car in CARS]


def test_the_photos_come_with_their_results(fake: FakeFlickr) -> None:
    with Client(PARAMS, POLICY) as client, ContentStore() as store:
        pairs = list(fetch_all(listed(fake), client, store, PARAMS, None))
    assert [photo for photo, _ in pairs] == listed(fake)


def test_the_order_does_not_depend_on_who_is_slow(fake: FakeFlickr) -> None:
    slow = {car.path("z"): faults.stall(0.02 * (number % 3)) for number, car in enumerate(CARS)}
    fake.plan = lambda _kind, _number, path: slow[path]
    assert fetch(listed(fake)) == [fake.photo_bytes_of(car, "z") for car in CARS]


def test_so_many_as_there_are_workers_are_asked_at_the_same_time(fake: FakeFlickr) -> None:
    fake.latency = 0.05
    start = time.monotonic()
    fetch(listed(fake, 40))
    assert time.monotonic() - start < 40 * 0.05


def test_nothing_to_fetch_is_nothing(fake: FakeFlickr) -> None:
    assert fetch([]) == []


def test_what_is_there_is_not_asked_for_again(fake: FakeFlickr) -> None:
    first = fetch(listed(fake))
    assert fetch(listed(fake)) == first
    assert fake.completed == {car.path("z"): 1 for car in CARS}
    assert len(fake.requests) == len(CARS)


def test_what_is_there_is_had_without_a_network(fake: FakeFlickr) -> None:
    first = fetch(listed(fake, 5))
    fake.plan = always("", faults.DROP)
    assert fetch(listed(fake, 5)) == first


def test_what_was_fetched_before_an_interruption_is_not_asked_for_again(fake: FakeFlickr) -> None:
    with Client(PARAMS, POLICY) as client, ContentStore() as store:
        results = fetch_all(listed(fake), client, store, PARAMS, None)
        for _ in range(20):
            next(results)
        close(results)
    fetch(listed(fake))
    on_their_way = PARAMS.workers  # when nobody wanted them any more
    assert fake.completed.total() <= len(CARS) + on_their_way


def test_an_address_that_a_list_has_twice_is_asked_once(fake: FakeFlickr) -> None:
    fake.latency = 0.02
    (photo,) = listed(fake, 1)
    assert fetch([photo] * 8) == [data_of(fake)] * 8
    assert fake.completed[CARS[0].path("z")] == 1


def test_a_pinned_photograph_is_had_from_wherever_it_is_known(fake: FakeFlickr) -> None:
    fetch(listed(fake, 1))
    elsewhere = "http://nowhere.invalid/moved.jpg"
    assert fetch_one(elsewhere, pinned=sha256(data_of(fake))) == data_of(fake)
    assert len(fake.requests) == 1


def test_a_pinned_photograph_that_is_as_pinned_is_kept(fake: FakeFlickr) -> None:
    url = listed(fake, 1)[0].url
    assert fetch_one(url, pinned=sha256(data_of(fake))) == data_of(fake)


def test_few_photos_are_taken_from_the_list_ahead_of_their_results(fake: FakeFlickr) -> None:
    taken = count()

    def lazily() -> Iterator[Photo]:
        while True:
            next(taken)
            yield listed(fake, 1)[0]

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
        (status(410), SkipReason.GONE),
        (status(401), SkipReason.FORBIDDEN),
        (status(403), SkipReason.FORBIDDEN),
        (status(451), SkipReason.FORBIDDEN),
        (status(400), SkipReason.REFUSED),
        (status(500), SkipReason.UNREACHABLE),
        (throttled(), SkipReason.UNREACHABLE),
        (throttled(100_000), SkipReason.UNREACHABLE),
        (faults.STALL, SkipReason.UNREACHABLE),
        (faults.DROP, SkipReason.UNREACHABLE),
        (faults.RESET, SkipReason.UNREACHABLE),
        (faults.SHORT, SkipReason.UNREACHABLE),
        (faults.DRIP, SkipReason.UNREACHABLE),
        (faults.ENDLESS, SkipReason.TOO_LARGE),
        (faults.CHUNKS, SkipReason.TOO_LARGE),
        (faults.EMPTY, SkipReason.NOT_AN_IMAGE),
        (faults.HTML, SkipReason.NOT_AN_IMAGE),
        (faults.HTML_AS_JPEG, SkipReason.NOT_AN_IMAGE),
        (faults.NO_AI, SkipReason.ROBOTS),
        (redirect("file:///etc/hostname"), SkipReason.BAD_ADDRESS),
        (redirect("/pw/images/en-us/photo_unavailable.png"), SkipReason.GONE),
        (header("Location", "/elsewhere"), None),
    ],
)
def test_a_photograph_that_cannot_be_had_has_a_reason_and_is_not_kept(
    fake: FakeFlickr, fault: faults.Fault, reason: SkipReason | None
) -> None:
    limits = PARAMS.model_copy(update={"max_file_megabytes": 0.1})
    fake.plan = always(CARS[0].path("z"), fault)
    url = listed(fake, 1)[0].url
    assert fetch_one(url, limits, HASTY) == (reason or data_of(fake))
    assert (kept(url) is None) == (reason is not None)


def test_the_others_are_had_all_the_same(fake: FakeFlickr) -> None:
    fake.plan = first_of(
        always(CARS[1].id, status(404)),
        always(CARS[3].id, faults.STALL),
        always(CARS[5].id, faults.HTML),
        always(CARS[7].id, faults.RESET),
    )
    results = fetch(listed(fake, 9), policy=HASTY)
    assert [each for each in results if isinstance(each, SkipReason)] == [
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
        "ftp://example.org/a.jpg",
        "http://",
        "http://[::1",
        "http://[x]/a.jpg",
        "http://a..b/",
        "http://h:port/",
        "http://h:99999/",
        "http://*/a",
        "data:image/png;base64,AAAA",
        " ",
        "http://\x00/",
        "http://a b/",
        "http://\x7f/",
    ],
)
def test_a_bad_address_is_one_and_the_others_go_on(fake: FakeFlickr, url: str) -> None:
    good = listed(fake, 2)
    results = fetch([good[0], Photo(url=url, label="car"), good[1]])
    assert results == [data_of(fake, 0), SkipReason.BAD_ADDRESS, data_of(fake, 1)]


@pytest.mark.parametrize("url", ["http://[::1", "http://[x]/a.jpg", "photo.jpg", " ", "http://"])
def test_a_photo_of_a_bad_address_can_be_named_in_the_report(url: str) -> None:
    assert Photo(url=url, label="car").name.startswith("car/")


def test_a_private_address_is_one(fake: FakeFlickr) -> None:
    limits = PARAMS.model_copy(update={"allow_private": False})
    assert fetch(listed(fake, 2), limits) == [SkipReason.PRIVATE_ADDRESS] * 2
    assert fake.requests == []


def test_a_photograph_that_was_removed_is_gone(fake: FakeFlickr) -> None:
    fake.removed = {CARS[0].id}
    url = listed(fake, 1)[0].url
    assert (fetch_one(url), kept(url)) == (SkipReason.GONE, None)
    assert [request.kind for request in fake.requests] == ["photo", "placeholder"]


def test_a_photograph_that_only_has_the_name_of_the_placeholder_is_had() -> None:
    with Wire(reply(JPEG)) as wire:
        assert fetch_one(wire.url("/photo_unavailable.jpg")) == JPEG


@pytest.mark.parametrize("most", [0.010, 0.011])
def test_a_photograph_past_the_limit_is_left(fake: FakeFlickr, most: float) -> None:
    fake.photo_bytes = 10_500
    limits = PARAMS.model_copy(update={"max_file_megabytes": most})
    result = fetch_one(listed(fake, 1)[0].url, limits)
    assert result == (SkipReason.TOO_LARGE if most < 0.0105 else data_of(fake))


# What is no image.


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"<!DOCTYPE html>",
        b"<?xml version='1.0'?>",
        b"<svg/>",
        b"\xef\xbb\xbf<html>",
        b"\n\n  <html>",
        b" \t\r\n<html>",
        b"\xef\xbb\xbf \r\n<html>",
        b"<",
        b"",
        b" " * 100_000 + b"<html>",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_web_page_is_no_image_whatever_it_is_called(body: bytes) -> None:
    with Wire(reply(body, "Content-Type: image/jpeg")) as wire:
        assert fetch_one(wire.url()) is SkipReason.NOT_AN_IMAGE
        assert kept(wire.url()) is None


@pytest.mark.parametrize("start", [b"\n", b"\xef\xbb\xbf", b" ", b"\xef"])
def test_a_web_page_that_comes_in_pieces_is_no_image(start: bytes) -> None:
    page = start + (b"\xbb\xbf" if start == b"\xef" else b"")
    chunks = [page[:1], page[1:], b"<html>"] if page[1:] else [page, b"<html>"]
    said = reply(chunked(*chunks), "Transfer-Encoding: chunked")
    with Wire(said) as wire:
        assert fetch_one(wire.url()) is SkipReason.NOT_AN_IMAGE


@pytest.mark.parametrize("kind", ["text/html", "text/plain", "application/octet-stream", ""])
def test_an_image_is_one_whatever_it_is_called(kind: str) -> None:
    with Wire(reply(JPEG, f"Content-Type: {kind}")) as wire:
        assert fetch_one(wire.url()) == JPEG


# What was pinned.


def test_other_bytes_than_were_pinned_are_left(fake: FakeFlickr) -> None:
    url = listed(fake, 1)[0].url
    assert fetch_one(url, pinned="0" * 64) is SkipReason.CHANGED
    assert kept(url) is None


def test_other_bytes_than_were_pinned_are_asked_for_once(fake: FakeFlickr) -> None:
    fetch_one(listed(fake, 1)[0].url, pinned="0" * 64)
    assert len(fake.requests) == 1


def test_what_an_address_gave_before_is_not_taken_for_what_is_pinned(fake: FakeFlickr) -> None:
    url = listed(fake, 1)[0].url
    fetch_one(url)
    assert fetch_one(url, pinned="0" * 64) is SkipReason.CHANGED
    assert fetch_one(url) == data_of(fake)


# Bad days.


@pytest.mark.parametrize("seed", range(3))
def test_every_fifth_answer_fails_and_all_is_there(fake: FakeFlickr, seed: int) -> None:
    failing = (
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
    fake.plan = every(5, *failing[seed:], *failing[:seed])
    stubborn = replace(HASTY, attempts=8)
    assert fetch(listed(fake), policy=stubborn) == [fake.photo_bytes_of(car, "z") for car in CARS]
    assert set(fake.completed) == {car.path("z") for car in CARS}


def test_a_photograph_that_fails_at_first_is_not_asked_for_again_once_there(
    fake: FakeFlickr,
) -> None:
    fake.plan = once(CARS[0].id, status(503))
    fetch(listed(fake, 3))
    fetch(listed(fake, 3))
    assert [request.path for request in fake.requests].count(CARS[0].path("z")) == 2


def test_what_failed_in_one_run_is_asked_for_in_the_next(fake: FakeFlickr) -> None:
    fake.plan = always(CARS[0].id, status(404))
    assert fetch(listed(fake, 1)) == [SkipReason.GONE]
    fake.plan = None
    assert fetch(listed(fake, 1)) == [data_of(fake)]


def test_a_damaged_photograph_is_fetched_anew_by_the_next_run(fake: FakeFlickr, root: Path) -> None:
    fetch(listed(fake, 2))
    (pack,) = (root / ".cache/acquire/packs").iterdir()
    pack.write_bytes(bytes(pack.stat().st_size))
    for number in range(2):
        with pytest.raises(Exception, match="fetch the lost"):
            fetch(listed(fake, 2)[number:][:1])
    assert fetch(listed(fake, 2)) == [data_of(fake, 0), data_of(fake, 1)]


def test_no_connection_is_left_open(fake: FakeFlickr) -> None:
    fake.plan = every(2, faults.RESET, status(404), faults.ENDLESS)
    fetch(listed(fake, 12), PARAMS.model_copy(update={"max_file_megabytes": 0.1}))
    gc.collect()  # a socket that nobody closed warns here, and warnings are errors


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
wanted = [Photo(url=url, label="car") for url in sys.argv[1:]]
with Client(params) as client, ContentStore() as store:
    for _, result in fetch_all(wanted, client, store, params, None):
        print("one", flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_while_a_server_hangs_keeps_what_came(
    fake: FakeFlickr, how: signal.Signals
) -> None:
    fake.plan = always(CARS[5].id, faults.STALL)
    urls = [photo.url for photo in listed(fake, 40)]
    with subprocess.Popen(
        [sys.executable, "-c", FETCH, *urls],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        for _ in range(5):
            assert process.stdout.readline() == "one\n"
        deadline = time.monotonic() + 5
        while fake.completed.total() < 39 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)  # until the last one is kept
        process.send_signal(how)
        try:
            process.communicate(timeout=2)
        finally:
            process.kill()
    fake.plan = None
    fetch(listed(fake, 40))
    assert fake.completed == {car.path("z"): 1 for car in CARS[:40]}


def test_two_sizes_of_a_photograph_are_two_photographs(fake: FakeFlickr) -> None:
    car = replace(CARS[0])
    urls = [fake.url(car.path(size)) for size in ("m", "z")]
    results = fetch([Photo(url=url, label="car") for url in urls])
    assert results == [fake.photo_bytes_of(car, "m"), fake.photo_bytes_of(car, "z")]


def test_what_is_kept_is_judged_by_the_rules_of_this_run(fake: FakeFlickr) -> None:
    fake.plan = always("", faults.NO_AI)
    url = listed(fake, 1)[0].url
    careless = PARAMS.model_copy(update={"respect_robots": False})
    assert fetch_one(url, careless) == data_of(fake)
    assert fetch_one(url, PARAMS) is SkipReason.ROBOTS
    small = careless.model_copy(update={"max_file_megabytes": 0.001})
    assert fetch_one(url, small) is SkipReason.TOO_LARGE
    assert fetch_one(url, careless) == data_of(fake)
