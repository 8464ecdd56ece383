import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import FlickrDataset, SearchTerms
from pipeline.datasets.licences import LICENCE_NAMES
from pipeline.params import load_params
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.sources import flickr
from pipeline.stages.acquire.sources.flickr import FlickrSearch
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.retry import Policy
from tests import ROOT
from tests.fakes import api
from tests.fakes.faults import (
    DROP,
    EMPTY,
    HTML,
    MALFORMED,
    SHORT,
    STALL,
    Fault,
    always,
    every,
    once,
    stat_fail,
    status,
    throttled,
)
from tests.fakes.flickr import KEY, SECRET, FakeFlickr
from tests.fakes.photos import FakePhoto, photos

PARAMS = load_params(ROOT / "params.yaml").acquire.model_copy(update={"per_host_per_second": 0})
SEARCH = "flickr.photos.search"
CARS = photos("car", 30)
DESCRIBED = FlickrDataset(
    kind="flickr",
    description="d",
    seed=1,
    wanted={"train": 1},
    classes={
        "car": SearchTerms(text="car"),
        "tagged": SearchTerms(tags=("car", "red"), tag_mode="all"),
        "either": SearchTerms(tags=("car", "red"), tag_mode="any"),
    },
)


@pytest.fixture(autouse=True)
def _keys(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("FLICKR_API_KEY", KEY)
    monkeypatch.setenv("FLICKR_API_SECRET", SECRET)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeFlickr]:
    """A tenth of Flickr's results per page and query, on both sides."""
    monkeypatch.setattr(flickr, "PER_PAGE", 50)
    monkeypatch.setattr(flickr, "MAX_RESULTS", 400)
    monkeypatch.setattr(api, "LARGEST_PAGE", 50)
    monkeypatch.setattr(api, "REACHABLE", 400)
    with FakeFlickr() as fake:
        monkeypatch.setenv("FLICKR_API_URL", fake.api_url)
        yield fake


def search(label: str = "car", **overrides: Any) -> Iterator[Photo]:
    with Client(PARAMS, Policy(pause=0.01, read_timeout=0.5, attempts=4)) as client:
        yield from FlickrSearch(client).find_photos(DESCRIBED.model_copy(update=overrides), label)


def ids(results: Iterator[Photo]) -> list[str | None]:
    return [photo.id for photo in results]


def ids_of(photos: list[FakePhoto]) -> list[str]:
    return [photo.id for photo in photos]


def search_error() -> str:
    with pytest.raises(PipelineError) as caught:
        list(search())
    message = str(caught.value)
    assert "\n" not in message
    assert KEY not in message
    assert SECRET not in message
    return message


def entry(**fields: Any) -> dict[str, Any]:
    """A photo in the JSON of the API."""
    return {
        "id": "1",
        "owner": "7@N00",
        "ownername": "Jo",
        "title": "T",
        "license": "4",
        "url_c": "https://live.staticflickr.com/1/1_a_c.jpg",
    } | fields


def response(*entries: Any, **fields: Any) -> Fault:
    page = {"page": 1, "pages": 1, "perpage": 500, "total": len(entries), "photo": list(entries)}
    return Fault(body=json.dumps({"photos": page | fields, "stat": "ok"}).encode())


def test_a_result_has_all_columns_of_a_pin(fake: FakeFlickr) -> None:
    fake.plan = always("", response(entry()))
    assert list(search()) == [
        Photo(
            id="1",
            url="https://live.staticflickr.com/1/1_a_c.jpg",
            label="car",
            title="T",
            page="https://www.flickr.com/photos/7@N00/1/",
            owner="Jo",
            group="7@N00",
            licence="CC BY 2.0",
        )
    ]


def test_results_are_sorted_by_relevance(fake: FakeFlickr) -> None:
    fake.add(CARS)
    assert ids(search()) == ids_of(CARS)
    (request,) = fake.requests
    assert request.form["sort"] == "relevance"
    assert request.form["media"] == "photos"


@pytest.mark.parametrize(
    ("label", "form"),
    [
        ("car", {"text": "car"}),
        ("tagged", {"tags": "car,red", "tag_mode": "all"}),
        ("either", {"tags": "car,red", "tag_mode": "any"}),
    ],
)
def test_the_query_has_the_terms_of_the_class(
    fake: FakeFlickr, label: str, form: dict[str, str]
) -> None:
    list(search(label))
    sent = fake.requests[0].form
    assert {key: sent[key] for key in form} == form
    assert ("text" in sent, "tags" in sent) == ("text" in form, "tags" in form)


@pytest.mark.parametrize(
    ("count", "repeats"), [(0, 0), (1, 0), (49, 0), (50, 0), (51, 0), (50, 3), (170, 3)]
)
def test_every_page_is_read_without_repeats(fake: FakeFlickr, count: int, repeats: int) -> None:
    fake.add(photos("car", count))
    fake.search.repeats = repeats
    assert ids(search()) == [photo.id for photo in photos("car", count)]


def test_pages_are_lazy(fake: FakeFlickr) -> None:
    fake.add(photos("car", 120))
    results = search()
    assert len(list(islice(results, 50))) == 50
    assert len(fake.requests) == 1
    next(results)
    assert len(fake.requests) == 2


def fail_after(requests: int) -> Any:
    """Fail the search if it makes more requests."""
    return lambda _kind, number, _path: status(403) if number > requests else None


@pytest.mark.parametrize("count", [3, 70, 390])
def test_a_search_ends_although_its_pages_grow(fake: FakeFlickr, count: int) -> None:
    fake.add(photos("car", count))
    fake.search.growing = True
    fake.plan = fail_after(100)
    for _ in range(2):
        assert ids(search()) == ids_of(photos("car", count))


def test_an_empty_page_in_the_middle_is_requested_again(fake: FakeFlickr) -> None:
    fake.add(photos("car", 120))
    fake.plan = once("page=2", response(total=120))
    assert len(list(search())) == 120


def test_results_beyond_one_query_are_found_by_date_in_a_fixed_order(fake: FakeFlickr) -> None:
    cars = photos("car", 500)
    fake.add(cars)
    results = ids(search())
    assert sorted(map(str, results)) == sorted(ids_of(cars))
    assert results[:400] == ids_of(cars[:400])
    assert ids(search()) == results


def test_windows_of_dates_are_complete(fake: FakeFlickr) -> None:
    cars = photos("car", 900)
    fake.add(cars)
    assert set(ids(search())) == set(ids_of(cars))
    start, end = (datetime(2006, month, 1, tzinfo=UTC).timestamp() for month in (5, 7))
    expected = {photo.id for photo in cars if start <= photo.uploaded < end}
    assert len(expected) > 5
    results = search(uploaded_after=date(2006, 5, 1), uploaded_before=date(2006, 7, 1))
    assert set(ids(results)) == expected


def test_a_search_ends_if_too_many_photos_have_the_same_date(fake: FakeFlickr) -> None:
    fake.add(replace(photo, uploaded=1_300_000_000) for photo in photos("car", 410))
    fake.plan = fail_after(200)
    assert len(list(search())) == 400


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"uploaded_after": date(2010, 1, 1)}, [1, 2, 3]),
        ({"uploaded_before": date(2012, 1, 1)}, [0, 1, 2]),
        ({"uploaded_after": date(2010, 1, 1), "uploaded_before": date(2012, 1, 1)}, [1, 2]),
    ],
    ids=["none", "after", "before", "both"],
)
def test_uploaded_after_is_inclusive_and_uploaded_before_exclusive(
    fake: FakeFlickr, bounds: dict[str, Any], expected: list[int]
) -> None:
    moments = [
        "2009-12-31T23:59:59",
        "2010-01-01T00:00:00",
        "2011-12-31T23:59:59",
        "2012-01-01T00:00:00",
    ]
    cars = [
        replace(photo, uploaded=int(datetime.fromisoformat(f"{moment}+00:00").timestamp()))
        for photo, moment in zip(CARS, moments, strict=False)
    ]
    fake.add(cars)
    assert ids(search(**bounds)) == [cars[number].id for number in expected]


def test_only_the_licences_of_the_description_are_found(fake: FakeFlickr) -> None:
    fake.add(CARS)
    results = list(search(licences=("CC BY 2.0", "CC0 1.0")))
    expected = [photo for photo in CARS if photo.licence in {4, 9}]
    assert ids(iter(results)) == ids_of(expected)
    assert [photo.licence for photo in results] == [
        LICENCE_NAMES[photo.licence] for photo in expected
    ]


def test_no_licences_in_the_description_mean_any(fake: FakeFlickr) -> None:
    fake.add(CARS)
    assert {photo.licence for photo in search()} == set(LICENCE_NAMES.values())


def test_a_licence_that_was_not_requested_is_left_out(fake: FakeFlickr) -> None:
    """Whatever Flickr returns."""
    fake.plan = always("", response(entry(), entry(id="2", license="0"), entry(id="3", license=99)))
    assert ids(search(licences=("CC BY 2.0",))) == ["1"]


def test_an_unknown_licence_is_left_out(fake: FakeFlickr) -> None:
    fake.plan = always("", response(entry(license="99"), entry(id="2")))
    assert ids(search()) == ["2"]


@pytest.mark.parametrize(
    ("preferred", "available", "expected"),
    [
        (("c",), "nzcl", "c"),
        (("c", "l"), "nzl", "l"),
        (("c",), "nzl", "z"),
        (("c",), "nl", "l"),
        (("n",), "zcl", "z"),
        (("o", "k"), "nc", "c"),
        (("l",), "ho", "h"),
    ],
)
def test_the_first_preferred_size_is_used_or_else_the_nearest(
    fake: FakeFlickr, preferred: tuple[str, ...], available: str, expected: str
) -> None:
    photo = replace(CARS[0], sizes=frozenset(available))
    fake.add([photo])
    (result,) = search(sizes=preferred)
    assert result.url == fake.url(photo.path(expected))


def test_a_photograph_without_any_size_is_left_out(fake: FakeFlickr) -> None:
    fake.add([replace(CARS[0], sizes=frozenset()), CARS[1]])
    assert ids(search()) == [CARS[1].id]


@pytest.mark.parametrize("url", ["", None, 7, ["x"]])
def test_a_size_with_an_invalid_url_is_ignored(fake: FakeFlickr, url: object) -> None:
    fake.plan = always("", response(entry(url_c=url, url_z="https://h/z.jpg")))
    assert [photo.url for photo in search()] == ["https://h/z.jpg"]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("one\ntwo\r\nthree\tfour", "one two three four"),
        ("  spaces  ", "spaces"),
        ("", None),
        (" \n ", None),
        (None, None),
        (7, None),
        ({"_content": "x"}, None),
        ("half \ud83d", "half ?"),
        ("whole \U0001f697", "whole \U0001f697"),
        ("next\u2028line\x85and\x0bmore", "next line and more"),
    ],
)
def test_a_title_becomes_one_line_of_text_or_none(
    fake: FakeFlickr, title: object, expected: str | None
) -> None:
    fake.plan = always("", response(entry(title=title)))
    assert [photo.title for photo in search()] == [expected]


@pytest.mark.parametrize("name", ["", None, " \n", 7])
def test_an_owner_without_a_name_is_named_by_id(fake: FakeFlickr, name: object) -> None:
    fake.plan = always("", response(entry(ownername=name)))
    assert [(photo.owner, photo.group) for photo in search()] == [("7@N00", "7@N00")]


@pytest.mark.parametrize("missing", ["title", "ownername", "url_c"])
def test_a_field_may_be_missing(fake: FakeFlickr, missing: str) -> None:
    odd = {key: value for key, value in entry().items() if key != missing}
    fake.plan = always("", response(odd, entry(id="2")))
    assert ids(search())[-1] == "2"


def test_the_owner_is_quoted_in_the_url_of_the_page(fake: FakeFlickr) -> None:
    fake.plan = always("", response(entry(owner="7/../@N 0?")))
    assert [photo.page for photo in search()] == [
        "https://www.flickr.com/photos/7%2F..%2F@N%200%3F/1/"
    ]


def test_a_url_with_a_surrogate_does_not_affect_other_results(fake: FakeFlickr) -> None:
    fake.plan = always("", response(entry(url_c="https://h/\ud83d.jpg"), entry(id="2")))
    assert "2" in ids(search())


def test_the_total_may_be_a_string(fake: FakeFlickr) -> None:
    fake.plan = always("", response(entry(), total="1"))
    assert ids(search()) == ["1"]


def ambiguous_ids(label: str, **classes: SearchTerms) -> set[str]:
    described = DESCRIBED.model_copy(update={"classes": classes})
    with Client(PARAMS, Policy(pause=0.01, read_timeout=0.5)) as client:
        search = FlickrSearch(client)
        list(search.find_photos(described, label))
        return search.ambiguous_ids


CAR, BIKE = SearchTerms(text="car"), SearchTerms(tags=("Mountain Bike", "red"))


@pytest.mark.parametrize(
    ("tags", "other", "is_ambiguous"),
    [
        ("mountainbike red car", BIKE, True),
        ("mountainbike car", BIKE, False),
        ("mountainbike car", BIKE.model_copy(update={"tag_mode": "any"}), True),
        ("mountain bike red", BIKE, False),
        ("car", SearchTerms(text="car"), True),
        ("car", SearchTerms(text="car boat"), False),
        ("", BIKE, False),
        (None, BIKE, False),
        (7, BIKE, False),
    ],
)
def test_a_photograph_that_matches_another_class_is_ambiguous(
    fake: FakeFlickr, tags: object, other: SearchTerms, is_ambiguous: bool
) -> None:
    fake.plan = always("", response(entry(tags=tags)))
    assert ambiguous_ids("car", car=CAR, bike=other) == ({"1"} if is_ambiguous else set())


def test_a_photograph_that_matches_only_its_own_class_is_not_ambiguous(
    fake: FakeFlickr,
) -> None:
    fake.plan = always("", response(entry(tags="mountainbike red")))
    assert ambiguous_ids("bike", car=CAR, bike=BIKE) == set()


@pytest.mark.parametrize("name", ["FLICKR_API_KEY", "FLICKR_API_SECRET"])
@pytest.mark.parametrize("empty", [True, False])
def test_without_a_key_the_error_says_where_to_get_one(
    monkeypatch: pytest.MonkeyPatch, name: str, empty: bool
) -> None:
    monkeypatch.setenv(name, "") if empty else monkeypatch.delenv(name)
    assert search_error() == (
        "a Flickr search needs FLICKR_API_KEY and FLICKR_API_SECRET in the environment: "
        "get them at https://www.flickr.com/services/apps/create/"
    )


def test_a_wrong_key_is_an_error_after_one_request(
    fake: FakeFlickr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLICKR_API_KEY", "wrong")
    assert search_error() == (
        "Flickr's search failed: Error: 100: Invalid API Key (Key has invalid format): are "
        "FLICKR_API_KEY and FLICKR_API_SECRET right?"
    )
    assert len(fake.requests) == 1


def test_a_wrong_secret_is_an_error(fake: FakeFlickr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLICKR_API_SECRET", "wrong")
    assert search_error().startswith(
        "Flickr's search failed: Error: 96: Invalid signature: are FLICKR_"
    )


LEAKS = [
    stat_fail(100, f"no {KEY} with {SECRET}"),
    stat_fail(105, f"no {KEY} with {SECRET}"),
    Fault(status=401, body=f"oauth_problem=key&oauth_consumer_key={KEY}&s={SECRET}".encode()),
    Fault(status=500, body=f"{KEY} {SECRET}".encode()),
    Fault(body=f"{KEY} {SECRET}".encode()),
]


@pytest.mark.parametrize("fault", LEAKS, ids=["100", "105", "401", "500", "no json"])
def test_key_and_secret_are_not_printed_or_logged(
    fake: FakeFlickr,
    fault: Fault,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fake.plan = always("", fault)
    caplog.set_level(logging.INFO)
    search_error()
    output = caplog.text + "".join(capfd.readouterr())
    assert KEY not in output
    assert SECRET not in output


def test_the_secret_is_not_in_debug_logs(
    fake: FakeFlickr, caplog: pytest.LogCaptureFixture
) -> None:
    fake.add(CARS)
    caplog.set_level(logging.DEBUG)
    list(search())
    assert SECRET not in caplog.text


def test_the_key_is_in_no_url(fake: FakeFlickr) -> None:
    fake.add(CARS)
    list(search())
    assert not any(KEY in request.path + str(request.form) for request in fake.requests)


TRANSIENT_FAULTS = {
    "105": stat_fail(105, "Service currently unavailable"),
    "500": status(500),
    "429": throttled(),
    "429 with Retry-After": throttled(0),
    "malformed": MALFORMED,
    "empty": EMPTY,
    "drop": DROP,
    "short": SHORT,
    "page": HTML,
    "stall": STALL,
}


@pytest.mark.parametrize("fault", TRANSIENT_FAULTS.values(), ids=TRANSIENT_FAULTS)
def test_a_transient_fault_is_retried(fake: FakeFlickr, fault: Fault) -> None:
    fake.add(CARS)
    fake.plan = once(SEARCH, fault)
    assert ids(search()) == [photo.id for photo in CARS]
    assert len(fake.requests) == 2


def test_many_transient_faults_do_not_change_the_results(fake: FakeFlickr) -> None:
    fake.add(photos("car", 460))
    clean = ids(search())
    fake.plan = every(2, MALFORMED, status(500), DROP, stat_fail(105, "x"), EMPTY, throttled())
    assert ids(search()) == clean


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (stat_fail(105, "Unavailable"), "Error: 105: Unavailable"),
        (status(503), "answers 503 Service Unavailable"),
        (MALFORMED, "its response is invalid"),
        (DROP, "cannot be reached"),
        (throttled(), "answers 429 Too Many Requests"),
    ],
    ids=["105", "503", "malformed", "drop", "429"],
)
def test_a_lasting_fault_is_an_error(fake: FakeFlickr, fault: Fault, message: str) -> None:
    fake.plan = always("", fault)
    assert search_error().startswith("Flickr's search failed: ")
    assert message in search_error()
    assert len(fake.requests) == 8


@pytest.mark.parametrize(
    "fault",
    [stat_fail(3, "Parameterless"), stat_fail(112, "Method not found"), status(403), status(404)],
    ids=["3", "112", "403", "404"],
)
def test_a_permanent_error_is_not_retried(fake: FakeFlickr, fault: Fault) -> None:
    fake.plan = always("", fault)
    assert search_error().startswith("Flickr's search failed: ")
    assert len(fake.requests) == 1


MALFORMED_BODIES = {
    "list": b"[]",
    "null": b"null",
    "ok": b'{"stat":"ok"}',
    "no page": b'{"photos":[]}',
    "no list": b'{"photos":{"total":1,"photo":{}}}',
    "no photos": b'{"photos":{"total":1,"photo":[7]}}',
    "no total": b'{"photos":{"photo":[]}}',
    "negative total": b'{"photos":{"total":-1,"photo":[]}}',
    "failure without words": b'{"stat":"fail"}',
    "failure with a list": b'{"stat":"fail","message":"","code":[1]}',
    "no utf-8": b'{"photos":"\xff"}',
    "deep": b"[" * 100_000,
    "long number": b'{"photos":{"photo":[],"total":' + b"9" * 5000 + b"}}",
}


@pytest.mark.parametrize("body", MALFORMED_BODIES.values(), ids=MALFORMED_BODIES)
def test_a_malformed_response_is_retried(fake: FakeFlickr, body: bytes) -> None:
    fake.add(CARS)
    fake.plan = once(SEARCH, Fault(body=body))
    assert len(list(search())) == len(CARS)


@pytest.mark.parametrize("odd", [{"id": "../1"}, {"id": None}, {"owner": ""}, {"license": "x"}])
def test_a_page_of_invalid_photographs_is_an_invalid_response(
    fake: FakeFlickr, odd: dict[str, Any]
) -> None:
    fake.plan = always("", response(entry(**odd)))
    assert search_error() == "Flickr's search failed: its response is invalid"


def test_a_search_creates_no_files(fake: FakeFlickr, world: Path) -> None:
    fake.add(CARS)
    list(search())
    assert list(world.rglob("*")) == []
