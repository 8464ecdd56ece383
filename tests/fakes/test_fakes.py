"""The fake Flickr speaks to flickrapi as it is, and fails in the ways it is told to."""

import gc
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import cv2
import numpy as np
import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from tests.fakes import faults
from tests.fakes.flickr import KEY, SECRET, UNAVAILABLE, FakeFlickr
from tests.fakes.photos import SIZES, jpeg, photos
from tests.fakes.process import running

flickrapi = importlib.import_module("flickrapi")  # it has no types
CARS = photos("car", 30)
BROKEN = requests.RequestException


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """No proxy of this machine stands between, and 64 connections are kept."""
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", HTTPAdapter(pool_maxsize=64))
        yield session


@pytest.fixture
def fake() -> Iterator[FakeFlickr]:
    with FakeFlickr(CARS) as fake:
        yield fake


def client(url: str, session: requests.Session, key: str = KEY, secret: str = SECRET) -> Any:
    made = type("Api", (flickrapi.FlickrAPI,), {"REST_URL": url})
    api = made(key, secret, format="parsed-json", store_token=False, timeout=5)
    api.flickr_oauth.session = session
    return api


def search(fake: FakeFlickr, session: requests.Session, **form: Any) -> Any:
    return client(fake.api_url, session).photos.search(**{"text": "car"} | form)["photos"]


def ids(found: Any) -> list[str]:
    return [photo["id"] for photo in found["photo"]]


def code(caught: pytest.ExceptionInfo[Any]) -> int | None:
    found: int | None = caught.value.code
    return found


def address(fake: FakeFlickr, number: int = 0) -> str:
    return fake.url(CARS[number].path("z"))


def test_a_photo_is_found_and_fetched(fake: FakeFlickr, session: requests.Session) -> None:
    extras = "license,owner_name,date_upload,url_c,url_o,path_alias,media"
    found = search(fake, session, extras=extras, per_page=500, sort="relevance")
    assert (found["page"], found["pages"], found["perpage"], found["total"]) == (1, 1, 500, 30)
    photo = found["photo"][4]
    assert photo["license"] == "4"
    assert photo["ownername"] == CARS[4].ownername
    assert photo["dateupload"] == str(CARS[4].uploaded)
    assert (photo["height_c"], photo["width_c"]) == CARS[4].shape("c")
    assert "url_o" not in photo
    assert "url_c" not in found["photo"][6]
    answer = session.get(photo["url_c"])
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert fake.completed == {CARS[4].path("c"): 1}
    api, host = fake.requests
    assert (api.kind, api.form["extras"], api.headers["Authorization"]) == ("api", extras, "OAuth")
    assert (host.kind, host.path) == ("photo", CARS[4].path("c"))
    assert host.headers["User-Agent"].startswith("python-requests")


def test_every_photo_is_another_true_jpeg() -> None:
    bodies = {jpeg(photo, size) for photo in CARS for size in SIZES}
    assert len(bodies) == len(CARS) * len(SIZES)
    for body in bodies:
        assert 10_000 <= len(body) < 40_000
        picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape == (64, 64, 3)
    assert len(jpeg(CARS[0], "z", 200_000)) == 200_000


def test_the_listed_photos_are_always_the_same_and_never_share_an_id() -> None:
    assert photos("car", 10) + photos("car", 20, first=10) == CARS
    several = photos("car", 2000) + photos("bicycle", 2000) + photos("car", 50, also=["bicycle"])
    assert len({photo.id for photo in several}) == len(several)
    assert {len(photo.id) for photo in several} == {11}
    owners = Counter(photo.owner for photo in photos("car", 190))
    assert Counter(owners.values()) == {10: 10, 2: 20, 1: 50}


@pytest.mark.parametrize(
    ("form", "count"),
    [
        ({"text": "car"}, 35),
        ({"text": "bicycle"}, 9),
        ({"text": "Car bicycle"}, 5),
        ({"text": "boat"}, 0),
        ({"text": None, "tags": "car,bicycle"}, 39),
        ({"text": None, "tags": "car, bicycle", "tag_mode": "all"}, 5),
        ({"license": "4,5"}, 5),
        ({"min_upload_date": CARS[8].uploaded, "max_upload_date": CARS[8].uploaded}, 1),
    ],
)
def test_a_search_is_narrowed(
    fake: FakeFlickr, session: requests.Session, form: dict[str, Any], count: int
) -> None:
    fake.add(photos("bicycle", 4) + photos("car", 5, also=["bicycle"]))
    assert search(fake, session, **form)["total"] == count


@pytest.mark.parametrize("sort", ["date-posted-asc", "date-posted-desc"])
def test_a_search_is_sorted(fake: FakeFlickr, session: requests.Session, sort: str) -> None:
    found = search(fake, session, sort=sort, extras="date_upload")["photo"]
    dates = [int(photo["dateupload"]) for photo in found]
    assert dates == sorted(dates, reverse=sort.endswith("desc"))


def test_pages_past_4000_results_repeat(session: requests.Session) -> None:
    with FakeFlickr(photos("car", 4600)) as fake:
        pages = [search(fake, session, per_page=999, page=page) for page in range(1, 11)]
    assert [len(page["photo"]) for page in pages] == [500] * 10
    assert {page["total"] for page in pages} == {4600}
    assert len({each for page in pages for each in ids(page)}) == 4000
    assert ids(pages[8]) == ids(pages[0])


def test_pages_can_repeat_and_grow(session: requests.Session) -> None:
    with FakeFlickr(CARS, growing=True, repeats=2) as fake:
        pages = [search(fake, session, per_page=10, page=page) for page in (1, 2, 9)]
    assert [page["pages"] for page in pages] == [3, 4, 5]
    assert [page["total"] for page in pages] == [30, 40, 50]
    assert ids(pages[1])[:2] == ids(pages[0])[-2:]
    assert len(ids(pages[1])) == 12
    assert ids(pages[2]) == []


@pytest.mark.parametrize(
    ("key", "secret", "said"), [("x", SECRET, 100), (KEY, "x", 96), (KEY, SECRET, None)]
)
def test_the_signature_is_checked(
    fake: FakeFlickr, session: requests.Session, key: str, secret: str, said: int | None
) -> None:
    api = client(fake.api_url, session, key, secret)
    if said is None:
        assert api.photos.search(text="Käfer & “Co” = +1%20")["photos"]["total"] == 0
        return
    with pytest.raises(flickrapi.FlickrError) as caught:
        api.photos.search(text="car")
    assert code(caught) == said


def test_a_request_sent_twice_is_refused(fake: FakeFlickr, session: requests.Session) -> None:
    fake.plan = faults.once("", faults.status(503))
    retry = Retry(1, status_forcelist=[503], allowed_methods=None, raise_on_status=False)
    session.mount("http://", HTTPAdapter(max_retries=retry))
    with pytest.raises(flickrapi.FlickrError, match="401"):
        search(fake, session)
    assert search(fake, session)["total"] == 30


@pytest.mark.parametrize(("method", "said"), [("test.echo", 112), ("photos.search", 3)])
def test_a_call_the_api_does_not_know(
    fake: FakeFlickr, session: requests.Session, method: str, said: int
) -> None:
    with pytest.raises(flickrapi.FlickrError) as caught:
        client(fake.api_url, session).do_flickr_call(f"flickr.{method}")
    assert code(caught) == said


def test_a_removed_photo_leads_to_a_placeholder(
    fake: FakeFlickr, session: requests.Session
) -> None:
    fake.removed.add(CARS[0].id)
    answer = session.get(address(fake))
    assert answer.history[0].status_code == 302
    assert (answer.url, answer.content[:4]) == (fake.url(UNAVAILABLE), b"\x89PNG")
    assert fake.completed == {}
    assert session.get(fake.url("/65535/1_ab_c.jpg")).status_code == 404


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (faults.status(500), None),
        (faults.throttled(3), None),
        (faults.stat_fail(105, "Unavailable"), 105),
    ],
)
def test_the_api_fails_as_told(
    fake: FakeFlickr, session: requests.Session, fault: faults.Fault, said: int | None
) -> None:
    fake.plan = faults.once("&page=2&", fault)
    assert search(fake, session, page=1)["total"] == 30
    with pytest.raises(flickrapi.FlickrError) as caught:
        search(fake, session, page=2)
    assert code(caught) == said
    assert search(fake, session, page=2)["total"] == 30


@pytest.mark.parametrize("fault", [faults.MALFORMED, faults.EMPTY])
def test_the_api_answers_nonsense(
    fake: FakeFlickr, session: requests.Session, fault: faults.Fault
) -> None:
    fake.plan = faults.always("text=car", fault)
    with pytest.raises(ValueError, match="Expecting"):
        search(fake, session)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (faults.DROP, "Remote end closed"),
        (faults.SHORT, "IncompleteRead"),
        (faults.RESET, "reset by peer|IncompleteRead"),
        (faults.cut(100), "100 bytes read"),
        (faults.STALL, "Read timed out"),
        (replace(faults.NONE, stall=60.0), "Read timed out"),
    ],
)
def test_a_connection_breaks(
    fake: FakeFlickr, session: requests.Session, fault: faults.Fault, said: str
) -> None:
    fake.plan = faults.once(".jpg", fault)
    with pytest.raises(BROKEN, match=said):
        session.get(address(fake), timeout=0.2)
    assert fake.completed == {}
    assert session.get(address(fake), timeout=5).content == jpeg(CARS[0], "z")


@pytest.mark.parametrize("fault", [faults.ENDLESS, faults.CHUNKS, faults.DRIP])
def test_a_body_has_no_end(
    fake: FakeFlickr, session: requests.Session, fault: faults.Fault
) -> None:
    fake.plan = faults.always("", fault)
    wanted = 4 if fault is faults.DRIP else 50_000
    start = time.monotonic()
    with session.get(address(fake), stream=True, timeout=5) as answer:
        assert "Content-Length" not in answer.headers
        body = answer.raw.read(wanted)
    assert body.startswith(jpeg(CARS[0], "z")[:wanted])
    assert fault is not faults.DRIP or time.monotonic() - start > 0.1


def test_an_answer_is_another_one(fake: FakeFlickr, session: requests.Session) -> None:
    now = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    told = [
        faults.HTML,
        faults.HTML_AS_JPEG,
        faults.NO_AI,
        faults.throttled(now),
        faults.redirect("file:///etc/hostname"),
        faults.stall(0.1),
    ]
    fake.plan = faults.once("", *told)
    answers = [session.get(address(fake), allow_redirects=False, timeout=5) for _ in told]
    html, hidden, denied, throttled, elsewhere, late = answers
    assert html.headers["Content-Type"].startswith("text/html")
    assert hidden.headers["Content-Type"] == "image/jpeg"
    assert html.content == hidden.content == faults.PAGE
    assert denied.headers["X-Robots-Tag"] == "noai, noimageai"
    assert throttled.headers["Retry-After"] == "Wed, 02 Jan 2030 03:04:05 GMT"
    assert elsewhere.headers["Location"] == "file:///etc/hostname"
    assert late.elapsed.total_seconds() >= 0.1
    assert denied.content == late.content == jpeg(CARS[0], "z")
    assert fake.completed == {CARS[0].path("z"): 2}


def test_every_third_answer_fails_and_a_retry_succeeds(
    fake: FakeFlickr, session: requests.Session
) -> None:
    fake.plan = faults.every(3, faults.status(500), faults.status(503), kind="photo")
    first = [session.get(address(fake, number)).status_code for number in range(6)]
    assert first == [200, 200, 500, 200, 200, 503]
    again = [session.get(address(fake, number)).status_code for number in (5, 5, 2, 2)]
    assert again == [200] * 4
    assert session.get(address(fake, 7)).status_code == 500


def test_a_file_is_fetched_in_parts(fake: FakeFlickr, session: requests.Session) -> None:
    url = fake.serve("a b.zip", bytes(range(200)))
    whole = session.get(url)
    assert whole.content == bytes(range(200))
    assert whole.headers["Accept-Ranges"] == "bytes"
    same, span = {"If-Range": whole.headers["ETag"]}, {"Range": "bytes=150-"}
    part = session.get(url, headers=span | same)
    assert (part.status_code, part.content) == (206, bytes(range(150, 200)))
    assert part.headers["Content-Range"] == "bytes 150-199/200"
    assert session.get(url, headers={"Range": "bytes=-3"}).content == bytes([197, 198, 199])
    assert session.get(url, headers={"Range": "bytes=5-6"}).content == bytes([5, 6])
    beyond = session.get(url, headers={"Range": "bytes=200-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, "bytes */200")
    fake.serve("a b.zip", bytes(100))
    changed = session.get(url, headers=span | same)
    assert (changed.status_code, changed.content) == (200, bytes(100))
    fake.serve("a b.zip", bytes(100), ranges=False, etag="")
    plain = session.get(url, headers={"Range": "bytes=5-6"})
    assert (plain.status_code, plain.headers.get("ETag")) == (200, None)


def test_connections_wait_side_by_side(session: requests.Session) -> None:
    with FakeFlickr(photos("car", 256), latency=0.1) as fake, ThreadPoolExecutor(64) as pool:
        start = time.monotonic()
        urls = [fake.url(photo.path("z")) for photo in photos("car", 256)]
        assert {each.status_code for each in pool.map(session.get, urls)} == {200}
        assert 0.4 < time.monotonic() - start < 4  # one after the other it is 25 seconds
        assert sum(fake.completed.values()) == 256


@pytest.mark.parametrize("fault", [faults.STALL, faults.ENDLESS, faults.DRIP, faults.NONE])
def test_it_ends_while_clients_are_there(fault: faults.Fault) -> None:
    with FakeFlickr(CARS, plan=faults.always("", fault)) as fake:
        there = [socket.create_connection(("127.0.0.1", fake.port)) for _ in range(20)]
        for number, each in enumerate(there):
            each.sendall(f"GET {CARS[0].path('z')} HTTP/1.1\r\n".encode())
            each.sendall(b"\r\n" if number % 2 else b"half a hea")
        for each in there[::3]:
            each.close()
    for each in there:
        each.close()
    gc.collect()  # what nobody closed warns here, and warnings are errors


def test_a_plan_that_raises_is_not_silent(session: requests.Session) -> None:
    def wrong(kind: str, number: int, path: str) -> faults.Fault | None:
        raise LookupError(path)

    broken = pytest.raises(BROKEN)
    with pytest.raises(LookupError), FakeFlickr(CARS, plan=wrong) as fake, broken:
        session.get(address(fake))


def test_it_runs_alone_and_survives_a_killed_client(session: requests.Session) -> None:
    fetch = (
        "import sys, urllib.request as u\n"
        "while True: u.build_opener(u.ProxyHandler({})).open(sys.argv[1]).read(); print(flush=True)"
    )
    arguments = ["--photos", "car=30", "--photos", "car+boat=5", "--fault", "api=2:500"]
    with running(*arguments) as fake:
        url = fake.url(CARS[0].path("z"))
        command = [sys.executable, "-c", fetch, url]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            os.kill(process.pid, signal.SIGKILL)
        assert session.get(url).content == jpeg(CARS[0], "z")
        api = client(fake.api_url, session)
        assert api.photos.search(text="boat")["photos"]["total"] == 5
        with pytest.raises(flickrapi.FlickrError):
            api.photos.search(text="car")
        record = fake.record()
    assert record["completed"][CARS[0].path("z")] >= 2
    assert [each["form"]["text"] for each in record["requests"] if each["kind"] == "api"] == [
        "boat",
        "car",
    ]
