import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import PipelineError
from pipeline.params import load_params
from pipeline.stages.acquire.dataset_toml import FlickrDataset, SearchTerms
from pipeline.stages.acquire.licences import LICENCE_NAMES
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.sources.flickr import FlickrSearch
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.rate_limit import Policy
from tests import ROOT
from tests.fakes.faults import (
    DROP,
    EMPTY,
    HTML,
    MALFORMED,
    RESET,
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
from tests.fakes.photos import photos

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
    with FakeFlickr() as fake:
        monkeypatch.setenv("FLICKR_API_URL", fake.api_url)
        yield fake


def search(label: str = "car", **overrides: Any) -> Iterator[Photo]:
    with Client(PARAMS, Policy(pause=0.01, read_timeout=0.5, attempts=4)) as client:
        yield from FlickrSearch(client).find_photos(DESCRIBED.model_copy(update=overrides), label)


def ids(found: Iterator[Photo]) -> list[str | None]:
    return [photo.id for photo in found]


def refusal() -> str:
    with pytest.raises(PipelineError) as caught:
        list(search())
    said = str(caught.value)
    assert "\n" not in said
    assert KEY not in said
    assert SECRET not in said
    return said


def entry(**said: Any) -> dict[str, Any]:
    """A photo as Flickr tells it."""
    return {
        "id": "1",
        "owner": "7@N00",
        "ownername": "Jo",
        "title": "T",
        "license": "4",
        "url_c": "https://live.staticflickr.com/1/1_a_c.jpg",
    } | said


def answer(*entries: Any, **said: Any) -> Fault:
    page = {"page": 1, "pages": 1, "perpage": 500, "total": len(entries), "photo": list(entries)}
    return Fault(body=json.dumps({"photos": page | said, "stat": "ok"}).encode())


def test_a_photograph_is_told_with_all_that_a_pin_needs(fake: FakeFlickr) -> None:
    fake.plan = always("", answer(entry()))
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


def test_photographs_come_by_relevance_with_their_sizes_and_owners(fake: FakeFlickr) -> None:
    fake.add(CARS)
    found = list(search())
    assert [photo.id for photo in found] == [photo.id for photo in CARS]
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
def test_what_is_searched_is_what_the_class_says(
    fake: FakeFlickr, label: str, form: dict[str, str]
) -> None:
    list(search(label))
    sent = fake.requests[0].form
    assert {key: sent[key] for key in form} == form
    assert ("text" in sent, "tags" in sent) == ("text" in form, "tags" in form)


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1700])
@pytest.mark.parametrize("repeats", [0, 3])
def test_every_page_is_read_and_each_photograph_comes_once(
    fake: FakeFlickr, count: int, repeats: int
) -> None:
    fake.add(photos("car", count))
    fake.search.repeats = repeats
    assert ids(search()) == [photo.id for photo in photos("car", count)]


def test_pages_are_lazy(fake: FakeFlickr) -> None:
    fake.add(photos("car", 1200))
    found = search()
    assert len(list(islice(found, 500))) == 500
    assert len(fake.requests) == 1
    next(found)
    assert len(fake.requests) == 2


def bounded(most: int) -> Any:
    """After that many requests, the search is refused."""
    return lambda _kind, number, _path: status(403) if number > most else None


@pytest.mark.parametrize("count", [30, 700, 2600, 3900])
def test_pages_that_grow_with_every_answer_come_to_an_end(fake: FakeFlickr, count: int) -> None:
    fake.add(photos("car", count))
    fake.search.growing = True
    fake.plan = bounded(100)
    assert ids(search()) == [photo.id for photo in photos("car", count)]


def test_a_second_search_comes_to_an_end_where_pages_grow(fake: FakeFlickr) -> None:
    fake.add(photos("car", 700))
    fake.search.growing = True
    fake.plan = bounded(100)
    for _ in range(4):
        assert len(list(search())) == 700


def test_an_empty_page_in_the_middle_is_asked_for_once_more(fake: FakeFlickr) -> None:
    fake.add(photos("car", 1200))
    fake.plan = once("page=2", answer(total=1200))
    assert len(list(search())) == 1200


def test_results_past_those_one_query_reaches_are_found_by_date(fake: FakeFlickr) -> None:
    there = photos("car", 5000)
    fake.add(there)
    found = ids(search())
    assert len(found) == len(set(found))
    assert set(found) == {photo.id for photo in there}
    assert found[:4000] == [photo.id for photo in there[:4000]]


def test_results_by_date_come_in_the_same_order_twice(fake: FakeFlickr) -> None:
    fake.add(photos("car", 4600))
    assert ids(search()) == ids(search())


def test_windows_of_dates_leave_no_second_out_and_do_not_overlap(fake: FakeFlickr) -> None:
    there = photos("car", 9000)
    fake.add(there)
    found = ids(search(uploaded_after=date(2006, 5, 1), uploaded_before=date(2006, 5, 2)))
    assert set(found) == {p.id for p in there if 1_146_441_600 <= p.uploaded < 1_146_528_000}
    assert set(ids(search())) == {photo.id for photo in there}


def test_more_than_can_be_reached_of_one_moment_come_to_an_end(fake: FakeFlickr) -> None:
    fake.add(replace(photo, uploaded=1_300_000_000) for photo in photos("car", 4100))
    fake.plan = bounded(200)
    assert len(list(search())) == 4000


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
def test_a_day_after_is_included_and_a_day_before_is_not(
    fake: FakeFlickr, bounds: dict[str, Any], expected: list[int]
) -> None:
    moments = [
        "2009-12-31T23:59:59",
        "2010-01-01T00:00:00",
        "2011-12-31T23:59:59",
        "2012-01-01T00:00:00",
    ]
    there = [
        replace(photo, uploaded=int(datetime.fromisoformat(f"{moment}+00:00").timestamp()))
        for photo, moment in zip(CARS, moments, strict=False)
    ]
    fake.add(there)
    assert ids(search(**bounds)) == [there[number].id for number in expected]


def test_only_the_licences_of_the_description_are_found(fake: FakeFlickr) -> None:
    fake.add(CARS)
    found = list(search(licences=("CC BY 2.0", "CC0 1.0")))
    expected = [photo for photo in CARS if photo.licence in {4, 9}]
    assert ids(iter(found)) == [photo.id for photo in expected]
    assert [photo.licence for photo in found] == [
        LICENCE_NAMES[photo.licence] for photo in expected
    ]


def test_no_licences_in_the_description_mean_any(fake: FakeFlickr) -> None:
    fake.add(CARS)
    assert {photo.licence for photo in search()} == set(LICENCE_NAMES.values())


def test_a_licence_that_was_not_asked_for_is_left_out(fake: FakeFlickr) -> None:
    """Whatever Flickr answers."""
    fake.plan = always("", answer(entry(), entry(id="2", license="0"), entry(id="3", license=99)))
    assert ids(search(licences=("CC BY 2.0",))) == ["1"]


def test_an_unknown_licence_is_left_out(fake: FakeFlickr) -> None:
    fake.plan = always("", answer(entry(license="99"), entry(id="2")))
    assert ids(search()) == ["2"]


@pytest.mark.parametrize(
    ("preferred", "given", "expected"),
    [
        (("c",), "nzcl", "c"),
        (("c", "l"), "nzl", "l"),
        (("c",), "nzl", "z"),
        (("c",), "nl", "l"),
        (("n",), "zcl", "z"),
        (("o", "k"), "nc", "c"),
        (("m", "n", "z"), "z", "z"),
        (("l",), "ho", "h"),
    ],
)
def test_the_first_preferred_size_is_taken_else_the_nearest_to_it(
    fake: FakeFlickr, preferred: tuple[str, ...], given: str, expected: str
) -> None:
    photo = replace(CARS[0], sizes=frozenset(given))
    fake.add([photo])
    (found,) = search(sizes=preferred)
    assert found.url == fake.url(photo.path(expected))


def test_a_photograph_without_any_size_is_left_out(fake: FakeFlickr) -> None:
    fake.add([replace(CARS[0], sizes=frozenset()), CARS[1]])
    assert ids(search()) == [CARS[1].id]


@pytest.mark.parametrize("url", ["", None, 7, ["x"], {"a": 1}])
def test_a_size_that_is_no_address_is_none(fake: FakeFlickr, url: object) -> None:
    fake.plan = always("", answer(entry(url_c=url, url_z="https://h/z.jpg")))
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
def test_a_title_is_one_line_of_text_or_none(
    fake: FakeFlickr, title: object, expected: str | None
) -> None:
    fake.plan = always("", answer(entry(title=title)))
    assert [photo.title for photo in search()] == [expected]


@pytest.mark.parametrize("name", ["", None, " \n", 7])
def test_an_owner_without_a_name_is_told_by_its_id(fake: FakeFlickr, name: object) -> None:
    fake.plan = always("", answer(entry(ownername=name)))
    assert [(photo.owner, photo.group) for photo in search()] == [("7@N00", "7@N00")]


@pytest.mark.parametrize("missing", ["title", "ownername", "url_c"])
def test_a_field_may_be_missing(fake: FakeFlickr, missing: str) -> None:
    odd = {key: value for key, value in entry().items() if key != missing}
    fake.plan = always("", answer(odd, entry(id="2")))
    assert ids(search())[-1] == "2"


def test_the_page_of_a_strange_owner_is_still_an_address(fake: FakeFlickr) -> None:
    fake.plan = always("", answer(entry(owner="7/../@N 0?")))
    assert [photo.page for photo in search()] == [
        "https://www.flickr.com/photos/7%2F..%2F@N%200%3F/1/"
    ]


def test_an_address_that_is_no_unicode_harms_no_other(fake: FakeFlickr) -> None:
    fake.plan = always("", answer(entry(url_c="https://h/\ud83d.jpg"), entry(id="2")))
    assert "2" in ids(search())


def test_a_total_may_be_a_text(fake: FakeFlickr) -> None:
    fake.plan = always("", answer(entry(), total="1"))
    assert ids(search()) == ["1"]


def contested(label: str, **classes: SearchTerms) -> set[str]:
    """Which photographs of a search answer another class too, as far as it knows."""
    described = DESCRIBED.model_copy(update={"classes": classes})
    with Client(PARAMS, Policy(pause=0.01, read_timeout=0.5)) as client:
        search = FlickrSearch(client)
        list(search.find_photos(described, label))
        return search.ambiguous_ids


CAR, BIKE = SearchTerms(text="car"), SearchTerms(tags=("Mountain Bike", "red"))


@pytest.mark.parametrize(
    ("tags", "other", "known"),
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
def test_a_photograph_that_has_the_tags_of_another_class_is_known(
    fake: FakeFlickr, tags: object, other: SearchTerms, known: bool
) -> None:
    fake.plan = always("", answer(entry(tags=tags)))
    assert contested("car", car=CAR, bike=other) == ({"1"} if known else set())


def test_a_photograph_that_has_the_tags_of_its_own_class_is_of_that_class(
    fake: FakeFlickr,
) -> None:
    fake.plan = always("", answer(entry(tags="mountainbike red")))
    assert contested("bike", car=CAR, bike=BIKE) == set()


@pytest.mark.parametrize("lacking", ["FLICKR_API_KEY", "FLICKR_API_SECRET"])
@pytest.mark.parametrize("empty", [True, False])
def test_without_a_key_it_is_said_where_to_get_one(
    monkeypatch: pytest.MonkeyPatch, lacking: str, empty: bool
) -> None:
    monkeypatch.setenv(lacking, "") if empty else monkeypatch.delenv(lacking)
    assert refusal() == (
        "a Flickr search needs FLICKR_API_KEY and FLICKR_API_SECRET in the environment: "
        "get them at https://www.flickr.com/services/apps/create/"
    )


def test_a_wrong_key_is_refused_in_a_sentence_after_one_request(
    fake: FakeFlickr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLICKR_API_KEY", "wrong")
    assert refusal() == (
        "Flickr's search failed: Error: 100: Invalid API Key (Key has invalid format): are "
        "FLICKR_API_KEY and FLICKR_API_SECRET right?"
    )
    assert len(fake.requests) == 1


def test_a_wrong_secret_is_refused_in_a_sentence(
    fake: FakeFlickr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLICKR_API_SECRET", "wrong")
    assert refusal().startswith("Flickr's search failed: Error: 96: Invalid signature: are FLICKR_")


LEAKS = [
    stat_fail(100, f"no {KEY} with {SECRET}"),
    stat_fail(105, f"no {KEY} with {SECRET}"),
    Fault(status=401, body=f"oauth_problem=key&oauth_consumer_key={KEY}&s={SECRET}".encode()),
    Fault(status=500, body=f"{KEY} {SECRET}".encode()),
    Fault(body=f"{KEY} {SECRET}".encode()),
]


@pytest.mark.parametrize("fault", LEAKS, ids=["100", "105", "401", "500", "no json"])
def test_neither_key_nor_secret_is_told_or_logged(
    fake: FakeFlickr,
    fault: Fault,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fake.plan = always("", fault)
    caplog.set_level(logging.INFO)
    refusal()
    said = caplog.text + "".join(capfd.readouterr())
    assert KEY not in said
    assert SECRET not in said


def test_the_secret_is_not_logged_even_where_everything_is(
    fake: FakeFlickr, caplog: pytest.LogCaptureFixture
) -> None:
    fake.add(CARS)
    caplog.set_level(logging.DEBUG)
    list(search())
    assert SECRET not in caplog.text


def test_the_key_is_in_no_address(fake: FakeFlickr) -> None:
    fake.add(CARS)
    list(search())
    assert not any(KEY in request.path + str(request.form) for request in fake.requests)


PASSING = {
    "105": stat_fail(105, "Service currently unavailable"),
    "10": stat_fail(10, "Photo search is unavailable"),
    "0": stat_fail(0, "Sorry"),
    "500": status(500),
    "502": status(502),
    "503": status(503),
    "429": throttled(),
    "429 for a moment": throttled(0),
    "malformed": MALFORMED,
    "empty": EMPTY,
    "drop": DROP,
    "reset": RESET,
    "short": SHORT,
    "page": HTML,
    "stall": STALL,
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_may_pass_is_tried_again(fake: FakeFlickr, fault: Fault) -> None:
    fake.add(CARS)
    fake.plan = once(SEARCH, fault)
    assert ids(search()) == [photo.id for photo in CARS]
    assert len(fake.requests) == 2


def test_many_faults_change_nothing(fake: FakeFlickr) -> None:
    fake.add(photos("car", 4600))
    clean = ids(search())
    fake.plan = every(2, MALFORMED, status(500), DROP, stat_fail(105, "x"), EMPTY, throttled())
    assert ids(search()) == clean


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (stat_fail(105, "Unavailable"), "Error: 105: Unavailable"),
        (status(503), "answers 503 Service Unavailable"),
        (MALFORMED, "its response is invalid"),
        (DROP, "cannot be reached"),
        (throttled(), "answers 429 Too Many Requests"),
    ],
    ids=["105", "503", "malformed", "drop", "429"],
)
def test_what_does_not_pass_is_refused_in_a_sentence(
    fake: FakeFlickr, fault: Fault, said: str
) -> None:
    fake.plan = always("", fault)
    assert refusal().startswith("Flickr's search failed: ")
    assert said in refusal()
    assert len(fake.requests) == 8


@pytest.mark.parametrize(
    "fault",
    [stat_fail(3, "Parameterless"), stat_fail(112, "Method not found"), status(403), status(404)],
    ids=["3", "112", "403", "404"],
)
def test_what_cannot_pass_is_tried_once(fake: FakeFlickr, fault: Fault) -> None:
    fake.plan = always("", fault)
    assert refusal().startswith("Flickr's search failed: ")
    assert len(fake.requests) == 1


STRANGE = {
    "list": b"[]",
    "null": b"null",
    "text": b'"x"',
    "number": b"7",
    "nothing": b"{}",
    "ok": b'{"stat":"ok"}',
    "no page": b'{"photos":[]}',
    "null page": b'{"photos":null}',
    "no list": b'{"photos":{"total":1,"photo":{}}}',
    "null list": b'{"photos":{"total":1,"photo":null}}',
    "no photos": b'{"photos":{"total":1,"photo":[7]}}',
    "no total": b'{"photos":{"photo":[]}}',
    "negative total": b'{"photos":{"total":-1,"photo":[]}}',
    "failure without words": b'{"stat":"fail"}',
    "no utf-8": b'{"photos":"\xff"}',
    "nan": b"NaN",
    "deep": b"[" * 100_000,
    "long number": b'{"photos":{"photo":[],"total":' + b"9" * 5000 + b"}}",
}


@pytest.mark.parametrize("body", STRANGE.values(), ids=STRANGE)
def test_an_answer_of_another_shape_is_asked_for_again(fake: FakeFlickr, body: bytes) -> None:
    fake.add(CARS)
    fake.plan = once(SEARCH, Fault(body=body))
    assert len(list(search())) == len(CARS)


@pytest.mark.parametrize("odd", [{"id": "../1"}, {"id": None}, {"owner": ""}, {"license": "x"}])
def test_a_photograph_that_makes_no_sense_is_no_sound_answer(
    fake: FakeFlickr, odd: dict[str, Any]
) -> None:
    fake.plan = always("", answer(entry(**odd)))
    assert refusal() == "Flickr's search failed: its response is invalid"


def test_a_search_leaves_no_file_behind(fake: FakeFlickr, world: Path) -> None:
    fake.add(CARS)
    list(search())
    assert list(world.rglob("*")) == []
