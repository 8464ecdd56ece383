"""Columns give the photographs back as they came."""

import numpy as np

from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources import search_results
from pipeline.stages.acquire.sources.search_results import (
    FETCHED,
    NOT_TRIED,
    REASONS,
    SearchResults,
)
from pipeline.stages.acquire.web.content_store import StoredBody

FULL = Photo(
    id="12345678901234567890",
    url="https://h/1.jpg",
    label="caf\u00e9",
    page="https://h/1",
    title="Z\u00fcrich, \u96ea",
    owner="Ann",
    group="1@N00",
    licence="CC BY 4.0",
)
BARE = Photo(url="https://h/2.jpg", label="x")


def rows(*numbers: int) -> search_results.Rows:
    return np.array(numbers, np.int64)


def test_photographs_come_back_with_their_splits() -> None:
    results = SearchResults(["train", "test"])
    results.append(FULL, "test")
    results.append(BARE, "train")
    assert len(results) == 2
    assert list(results.photos(rows(1, 0))) == [
        BARE.model_copy(update={"split": "train"}),
        FULL.model_copy(update={"split": "test"}),
    ]
    assert list(results.photos(rows(0), with_split=False)) == [FULL]
    assert list(results.photos(rows())) == []
    assert results.ids().to_pylist() == [FULL.id, None]


def test_what_a_fetch_gave_is_recorded() -> None:
    results = SearchResults(["train"])
    for _ in range(3):
        results.append(BARE, "train")
    body = StoredBody("ab" * 32, "0123456789abcdef" * 2, 2**40, 3, True)
    results.record(2, body)
    results.record(0, SkipReason.GONE)
    assert results.outcomes.tolist() == [REASONS.index(SkipReason.GONE), NOT_TRIED, FETCHED]
    assert results.digests.tolist() == [b"", b"", b"ab" * 32]
    assert list(results.bodies(rows(2))) == [body]


def test_more_results_than_are_allocated_at_a_time() -> None:
    results = SearchResults(["train", "val"])
    count = 2 * search_results.ALLOCATED + 1
    for number in range(count):
        results.append(BARE.model_copy(update={"id": str(number)}), ("train", "val")[number % 2])
    results.record(count - 1, SkipReason.GONE)
    assert len(results) == count
    assert results.splits.tolist() == [number % 2 for number in range(count)]
    assert (results.outcomes[:-1] == NOT_TRIED).all()
    (last,) = results.photos(rows(count - 1))
    assert (last.id, last.split) == (str(count - 1), "train")
