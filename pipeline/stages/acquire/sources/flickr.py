"""Flickr's search API, page by page; the only importer of flickrapi.

The key and the secret come from the environment and are used to sign requests, nowhere else.
"""

import logging
import math
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Annotated, Any
from urllib.parse import quote

import flickrapi
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import FlickrDataset, SearchTerms
from pipeline.datasets.licences import LICENCE_NAMES, LICENCES
from pipeline.datasets.toml_values import FLICKR_SIDES
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.fetch_error import FetchError

PER_PAGE = 500  # Flickr's maximum
MAX_RESULTS = 4000  # of one query; further pages repeat earlier ones
FIRST, LAST = 1_072_915_200, 2**31 - 1  # Unix seconds: 2004, the year Flickr opened, and 2038
DAY = 86_400  # seconds
ID_LENGTH = 20  # digits, at most
KEY_ERRORS = {96, 97, 98, 99, 100}  # codes for a wrong key or signature
TRANSIENT_ERRORS = {0, 10, 105}  # codes for a search or service that is down
EXTRAS = ",".join(
    ["license", "owner_name", "tags", "description", *(f"url_{size}" for size in FLICKR_SIDES)]
)
# They log signed requests, and bodies of failed responses, which may repeat the request.
LOGGERS = (
    "flickrapi",
    "flickrapi.core",
    "flickrapi.auth",
    "requests_oauthlib.oauth1_auth",
    "oauthlib.oauth1.rfc5849",
    "oauthlib.oauth1.rfc5849.signature",
)


class _Result(BaseModel):
    model_config = ConfigDict(extra="allow")

    id: Annotated[str, Field(pattern=rf"^[0-9]{{1,{ID_LENGTH}}}$")]
    owner: Annotated[str, Field(min_length=1)]
    ownername: Any = None
    title: Any = None
    tags: Any = None
    """Separated by spaces, in lower case, each without spaces."""
    description: Any = None
    license: Annotated[int, Field(ge=0)]


class _Page(BaseModel):
    total: Annotated[int, Field(ge=0)]
    photo: list[Any]


class _SearchResponse(BaseModel):
    photos: _Page


class _SeenIds:
    """Ids of results, in a column: 20 bytes each, a fifth of what a set of texts takes."""

    def __init__(self) -> None:
        self._sorted = np.zeros(0, f"S{ID_LENGTH}")

    def add(self, ids: Sequence[str]) -> list[bool]:
        """Add some ids; say for each whether it had not been added before."""
        added = np.array(ids, self._sorted.dtype)
        is_new = np.zeros(len(added), bool)
        is_new[np.unique(added, return_index=True)[1]] = True
        is_new &= ~np.isin(added, self._sorted)
        self._sorted = np.union1d(self._sorted, added)
        return list(is_new.tolist())


class FlickrSearch:
    """flickr.photos.search with the API key of the environment."""

    def __init__(self, client: Client) -> None:
        """Raises PipelineError if the environment has no key."""
        key, secret = (os.environ.get(name, "") for name in ("FLICKR_API_KEY", "FLICKR_API_SECRET"))
        if not key or not secret:
            raise PipelineError(
                "a Flickr search needs FLICKR_API_KEY and FLICKR_API_SECRET in the environment: "
                "get them at https://www.flickr.com/services/apps/create/"
            )
        for name in LOGGERS:
            logging.getLogger(name).disabled = True
        self.ambiguous_ids: set[str] = set()
        """Ids of results that match a second class by their title, tags or description."""
        self._secrets = (key, secret)
        self._client = client
        self._api = flickrapi.FlickrAPI(key, secret, format="parsed-json", store_token=False)
        self._api.REST_URL = os.environ.get("FLICKR_API_URL") or flickrapi.FlickrAPI.REST_URL
        self._api.flickr_oauth.session = client.library_session("api.flickr.com")

    def find_photos(self, dataset: FlickrDataset, label: str) -> Iterator[Photo]:
        """Yield the results for a class, best first, without repeats; pages are read lazily.

        Results beyond the reach of one query are searched by windows of upload dates, newest
        first. The windows have fixed bounds, so that the order is reproducible.
        """
        query = _query(dataset, dataset.classes[label])
        yield from self._search_period(query, _period(dataset), dataset, label, _SeenIds())

    def _search_period(
        self,
        query: dict[str, str],
        period: tuple[int, int],
        dataset: FlickrDataset,
        label: str,
        seen: _SeenIds,
    ) -> Iterator[Photo]:
        start, end = period
        bounds = {"min_upload_date": str(start), "max_upload_date": str(end)}
        has_more = yield from self._read_pages(query | bounds, dataset, label, seen)
        if has_more and end - start > DAY:
            middle = (start + end) // 2
            for half in ((middle + 1, end), (start, middle)):
                yield from self._search_period(query, half, dataset, label, seen)

    def _read_pages(
        self, query: dict[str, str], dataset: FlickrDataset, label: str, seen: _SeenIds
    ) -> Generator[Photo, None, bool]:
        """Yield the results that one query reaches; return whether there are more."""
        number = 1
        while True:
            page = self._read_page(query, number)
            if not page.photo and page.total > PER_PAGE * (number - 1):
                page = self._read_page(query, number)  # an empty page in the middle: try again
            results = [result for result in map(_parse_result, page.photo) if result is not None]
            are_new = seen.add([result.id for result in results])
            for result, is_new in zip(results, are_new, strict=True):
                if is_new and (photo := _to_photo(result, dataset, label)) is not None:
                    if _matches_other_class(result, dataset, label):
                        self.ambiguous_ids.add(result.id)
                    yield photo
            # `pages` and `total` may grow with every response, but not past MAX_RESULTS.
            if not page.photo or page.total <= PER_PAGE * number:
                return False
            if number == MAX_RESULTS // PER_PAGE:
                return True
            number += 1

    def _read_page(self, query: Mapping[str, str], number: int) -> _Page:
        try:
            return self._client.retry(lambda: self._request_page(query, number))
        except FetchError as error:
            raise PipelineError(f"Flickr's search failed: {self._redact(str(error))}") from None

    def _request_page(self, query: Mapping[str, str], number: int) -> _Page:
        try:
            response = self._api.photos.search(**query, page=number)
        except flickrapi.FlickrError as error:
            message = str(error)
            if error.code in KEY_ERRORS:
                message += ": are FLICKR_API_KEY and FLICKR_API_SECRET right?"
            transient = error.code in TRANSIENT_ERRORS
            raise FetchError(SkipReason.REFUSED, message, transient=transient) from None
        # flickrapi raises any of these for malformed JSON: the tests have a response for each.
        except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
            raise _invalid_response() from None
        try:
            page = _SearchResponse.model_validate(response).photos
        except ValidationError:
            raise _invalid_response() from None
        if page.photo and all(_parse_result(entry) is None for entry in page.photo):
            raise _invalid_response()
        return page

    def _redact(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "...") if len(secret) > 7 else text  # a real one has 16
        return text


def _query(dataset: FlickrDataset, terms: SearchTerms) -> dict[str, Any]:
    query = {
        "text": terms.text,
        "tags": ",".join(terms.tags),
        "tag_mode": terms.tag_mode,
        "license": ",".join(str(LICENCES[name][0]) for name in dataset.licences),
        "sort": "relevance",
        "media": "photos",
        "content_types": "0",
        "extras": EXTRAS,
        "per_page": str(PER_PAGE),
    }
    return {key: value for key, value in query.items() if value}


def _period(dataset: FlickrDataset) -> tuple[int, int]:
    """First and last second of upload, both included."""
    start, end = dataset.uploaded_after, dataset.uploaded_before
    return (_to_seconds(start) if start else FIRST, _to_seconds(end) - 1 if end else LAST)


def _to_seconds(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp())


def _invalid_response() -> FetchError:
    return FetchError(SkipReason.UNREACHABLE, "its response is invalid", transient=True)


def _parse_result(entry: object) -> _Result | None:
    """Return None for an invalid entry, to keep the others of its page."""
    try:
        return _Result.model_validate(entry)
    except ValidationError:
        return None


def _to_photo(result: _Result, dataset: FlickrDataset, label: str) -> Photo | None:
    """Return None for a result without a URL, or with another licence than requested."""
    licence = LICENCE_NAMES.get(result.license)
    url = _image_url(result, dataset.sizes)
    if url is None or licence is None or (dataset.licences and licence not in dataset.licences):
        return None
    return Photo(
        id=result.id,
        url=url,
        label=label,
        page=f"https://www.flickr.com/photos/{quote(result.owner, safe='@')}/{result.id}/",
        title=_clean_text(result.title),
        owner=_clean_text(result.ownername) or result.owner,
        group=result.owner,
        licence=licence,
    )


def _image_url(result: _Result, preferred: tuple[str, ...]) -> str | None:
    """Return the URL of the first preferred size that exists, else of the nearest size to it."""
    fields = result.model_extra or {}
    target = math.log(FLICKR_SIDES[preferred[0]])
    nearest = sorted(FLICKR_SIDES, key=lambda size: abs(math.log(FLICKR_SIDES[size]) - target))
    for size in (*preferred, *nearest):
        url = fields.get(f"url_{size}")
        if isinstance(url, str) and url and url.isascii():
            return url
    return None


def _matches_other_class(result: _Result, dataset: FlickrDataset, label: str) -> bool:
    """Whether title, tags and description match the search of another class.

    The other search may list the result on a page that is never read.
    """
    tags = set(result.tags.split()) if isinstance(result.tags, str) else set()
    description = (
        result.description.get("_content") if isinstance(result.description, dict) else None
    )
    texts = (str(text or "") for text in (result.title, description))
    words = tags | {_normalize(word) for text in texts for word in text.split()}
    return any(
        _matches(terms, tags, words) for other, terms in dataset.classes.items() if other != label
    )


def _matches(terms: SearchTerms, tags: set[str], words: set[str]) -> bool:
    """Whether a photograph with these tags and words matches a search."""
    has_tag = [_normalize(tag) in tags for tag in terms.tags]
    has_tags = any(has_tag) if terms.tag_mode == "any" and has_tag else all(has_tag)
    return has_tags and all(_normalize(word) in words for word in terms.text.split())


def _normalize(word: str) -> str:
    """As Flickr writes a tag."""
    return "".join(character for character in word.lower() if character.isalnum())


def _clean_text(value: object) -> str | None:
    """Return a text on one line; None if it is empty or not a string."""
    text = value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""
    return " ".join(text.split()) or None
