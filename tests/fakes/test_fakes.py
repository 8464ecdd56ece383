"""Facts about Flickr's API and HTTP that the tests of stage acquire rely on."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from tests.fakes import faults
from tests.fakes.flickr import KEY, SECRET, FakeFlickr
from tests.fakes.photos import photos

flickrapi = importlib.import_module("flickrapi")  # has no types
CARS = photos("car", 30)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # no proxy
        yield session


@pytest.fixture
def fake() -> Iterator[FakeFlickr]:
    with FakeFlickr(CARS) as fake:
        yield fake


def search(fake: FakeFlickr, session: requests.Session, secret: str = SECRET, **form: Any) -> Any:
    api = flickrapi.FlickrAPI(KEY, secret, format="parsed-json", store_token=False, timeout=5)
    api.REST_URL = fake.api_url
    api.flickr_oauth.session = session
    return api.photos.search(**{"text": "car"} | form)["photos"]


def ids(page: Any) -> list[str]:
    return [photo["id"] for photo in page["photo"]]


def url_of(fake: FakeFlickr, number: int = 0) -> str:
    return fake.url(CARS[number].path("z"))


def test_flickrapi_finds_a_photo_and_it_can_be_fetched(
    fake: FakeFlickr, session: requests.Session
) -> None:
    extras = "license,owner_name,date_upload,url_c,url_o"
    page = search(fake, session, extras=extras, per_page=500, sort="relevance")
    assert (page["page"], page["pages"], page["perpage"], page["total"]) == (1, 1, 500, 30)
    photo = page["photo"][4]
    assert (photo["license"], photo["ownername"]) == ("4", CARS[4].ownername)
    assert (photo["height_c"], photo["width_c"]) == CARS[4].shape("c")
    assert "url_o" not in photo
    assert session.get(photo["url_c"]).content == fake.photo_bytes_of(CARS[4], "c")
    assert fake.completed == {CARS[4].path("c"): 1}
    assert [request.kind for request in fake.requests] == ["api", "photo"]


def test_a_search_respects_its_terms(fake: FakeFlickr, session: requests.Session) -> None:
    fake.add(photos("bicycle", 4) + photos("car", 5, also=["bicycle"]))
    both = {"text": None, "tags": "car,bicycle"}
    moment = CARS[8].uploaded
    totals = [
        search(fake, session, **form)["total"]
        for form in (
            {"text": "Car bicycle"},
            both,
            both | {"tag_mode": "all"},
            {"license": "4,5"},
            {"min_upload_date": moment, "max_upload_date": moment},
        )
    ]
    assert totals == [5, 39, 5, 5, 1]


def test_pages_past_4000_results_repeat_earlier_ones(session: requests.Session) -> None:
    with FakeFlickr(photos("car", 4600)) as fake:
        first, last, beyond = (search(fake, session, per_page=999, page=n) for n in (1, 8, 9))
    assert [len(ids(page)) for page in (first, last, beyond)] == [500] * 3
    assert ids(beyond) == ids(first) != ids(last)


def test_pages_can_repeat_and_grow(session: requests.Session) -> None:
    with FakeFlickr(CARS, growing=True, repeats=2) as fake:
        pages = [search(fake, session, per_page=10, page=page) for page in (1, 2, 9)]
    assert [page["total"] for page in pages] == [30, 40, 50]
    assert ids(pages[1])[:2] == ids(pages[0])[-2:]
    assert [len(ids(page)) for page in pages] == [10, 12, 0]


def test_the_signature_is_checked(fake: FakeFlickr, session: requests.Session) -> None:
    assert search(fake, session, text="Käfer & “Co” = +1%20")["total"] == 0
    with pytest.raises(flickrapi.FlickrError, match="96"):
        search(fake, session, secret="x")


def test_a_request_sent_twice_is_refused(fake: FakeFlickr, session: requests.Session) -> None:
    fake.plan = faults.once("", faults.status(503))
    retry = Retry(1, status_forcelist=[503], allowed_methods=None, raise_on_status=False)
    session.mount("http://", HTTPAdapter(max_retries=retry))
    with pytest.raises(flickrapi.FlickrError, match="401"):
        search(fake, session)


def test_every_third_response_fails_and_a_retry_succeeds(
    fake: FakeFlickr, session: requests.Session
) -> None:
    fake.plan = faults.every(3, faults.status(500), faults.status(503), kind="photo")
    statuses = [session.get(url_of(fake, number)).status_code for number in range(6)]
    assert statuses == [200, 200, 500, 200, 200, 503]
    assert [session.get(url_of(fake, number)).status_code for number in (5, 2)] == [200, 200]


def test_a_file_can_be_fetched_in_ranges(fake: FakeFlickr, session: requests.Session) -> None:
    url = fake.serve("a b.zip", bytes(range(200)))
    whole = session.get(url)
    assert whole.content == bytes(range(200))
    headers = {"Range": "bytes=150-", "If-Range": whole.headers["ETag"]}
    part = session.get(url, headers=headers)
    assert (part.status_code, part.content) == (206, bytes(range(150, 200)))
    assert part.headers["Content-Range"] == "bytes 150-199/200"
    beyond = session.get(url, headers={"Range": "bytes=200-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, "bytes */200")
    fake.serve("a b.zip", bytes(100))
    replaced = session.get(url, headers=headers)
    assert (replaced.status_code, replaced.content) == (200, bytes(100))


def test_an_error_in_a_plan_fails_the_test(session: requests.Session) -> None:
    def plan(kind: str, number: int, path: str) -> faults.Fault | None:
        raise LookupError(path)

    broken = pytest.raises(requests.RequestException)
    with pytest.raises(LookupError), FakeFlickr(CARS, plan=plan) as fake, broken:
        session.get(url_of(fake))
