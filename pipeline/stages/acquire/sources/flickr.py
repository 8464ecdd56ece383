"""Flickr's search, page by page; the only importer of flickrapi.

The key and the secret come from the environment and go into signed requests, nowhere else.
"""

import logging
import math
import os
from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, date, datetime, time
from typing import Annotated, Any
from urllib.parse import quote

import flickrapi
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.dataset_toml import FLICKR_SIDES, FlickrDataset, SearchTerms
from pipeline.stages.acquire.licences import LICENCE_NAMES, LICENCES
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.fetch_error import FetchError

PER_PAGE = 500  # the most that Flickr gives
REACHABLE = 4000  # results of one query; further pages repeat earlier ones
FIRST, LAST = 1_072_915_200, 2**31 - 1  # Unix seconds: 2004, the year Flickr opened, and 2038
DAY = 86_400
REFUSED = {96, 97, 98, 99, 100}  # codes of a key or a signature that is wrong
PASSING = {0, 10, 105}  # codes of a search, or a service, that is not available just now
EXTRAS = ",".join(
    ["license", "owner_name", "tags", "description", *(f"url_{size}" for size in FLICKR_SIDES)]
)

# They log bodies of failed answers, which may echo what was asked, and what is signed.
logging.getLogger("flickrapi").disabled = True
for _name in (
    "flickrapi.core",
    "flickrapi.auth",
    "requests_oauthlib.oauth1_auth",
    "oauthlib.oauth1.rfc5849",
    "oauthlib.oauth1.rfc5849.signature",
):
    logging.getLogger(_name).disabled = True


class _Found(BaseModel):
    model_config = ConfigDict(extra="allow")

    id: Annotated[str, Field(pattern=r"^\d{1,20}$")]
    owner: Annotated[str, Field(min_length=1)]
    ownername: Any = None
    title: Any = None
    tags: Any = None
    """Separated by spaces, each in lower case and without spaces of its own."""
    description: Any = None
    license: Annotated[int, Field(ge=0)]


class _Page(BaseModel):
    total: Annotated[int, Field(ge=0)]
    photo: list[Any]


class _Answer(BaseModel):
    photos: _Page


class FlickrSearch:
    """flickr.photos.search with this machine's key."""

    def __init__(self, client: Client) -> None:
        """Raises PipelineError where the environment has no key."""
        key, secret = (os.environ.get(name, "") for name in ("FLICKR_API_KEY", "FLICKR_API_SECRET"))
        if not key or not secret:
            raise PipelineError(
                "a Flickr search needs FLICKR_API_KEY and FLICKR_API_SECRET in the environment: "
                "https://www.flickr.com/services/apps/create/ gives them"
            )
        self.ambiguous_ids: set[str] = set()
        """The ids of photographs that answer a second class by their tags, as far as is known."""
        self._secrets = (key, secret)
        self._client = client
        self._api = flickrapi.FlickrAPI(key, secret, format="parsed-json", store_token=False)
        self._api.REST_URL = os.environ.get("FLICKR_API_URL") or flickrapi.FlickrAPI.REST_URL
        self._api.flickr_oauth.session = client.library_session("api.flickr.com")

    def find_photos(self, dataset: FlickrDataset, label: str) -> Iterator[Photo]:
        """What Flickr finds for a class, each photograph once, best first, in lazy pages.

        Past the results that one query reaches, windows of upload dates reach the others, newest
        first. The windows are cut at fixed dates, so the same results come in the same order.
        """
        query = _query(dataset, dataset.classes[label])
        yield from self._window(query, _period(dataset), dataset, label, set())

    def _window(
        self,
        query: dict[str, str],
        period: tuple[int, int],
        dataset: FlickrDataset,
        label: str,
        seen: set[str],
    ) -> Iterator[Photo]:
        start, end = period
        more = yield from self._pages(query | _window(start, end), dataset, label, seen)
        if more and end - start > DAY:
            middle = (start + end) // 2
            for part in ((middle + 1, end), (start, middle)):
                yield from self._window(query, part, dataset, label, seen)

    def _pages(
        self, query: dict[str, str], dataset: FlickrDataset, label: str, seen: set[str]
    ) -> Generator[Photo, None, bool]:
        """Yield what one query reaches; return whether there are results beyond."""
        number = 1
        while True:
            page = self._page(query, number)
            if not page.photo and page.total > PER_PAGE * (number - 1):
                page = self._page(query, number)  # an empty page in the middle: asked once more
            for found in map(_found, page.photo):
                if found is not None and found.id not in seen:
                    seen.add(found.id)
                    if (photo := _photo(found, dataset, label)) is not None:
                        if _answers_another(found, dataset, label):
                            self.ambiguous_ids.add(found.id)
                        yield photo
            # `pages` and `total` may grow with every answer; what can be reached does not.
            if not page.photo or page.total <= PER_PAGE * number:
                return False
            if number == REACHABLE // PER_PAGE:
                return True
            number += 1

    def _page(self, query: Mapping[str, str], number: int) -> _Page:
        try:
            return self._client.retry(lambda: self._ask(query, number))
        except FetchError as failure:
            raise PipelineError(f"Flickr's search failed: {self._redacted(str(failure))}") from None

    def _ask(self, query: Mapping[str, str], number: int) -> _Page:
        try:
            said = self._api.photos.search(**query, page=number)
            page = _Answer.model_validate(said).photos
            if page.photo and all(_found(entry) is None for entry in page.photo):
                raise ValueError("a page of nothing that could be a photograph")
            return page
        except flickrapi.FlickrError as error:
            said = str(error)
            if error.code in REFUSED:
                said += ": are FLICKR_API_KEY and FLICKR_API_SECRET right?"
            raise FetchError(SkipReason.REFUSED, said, transient=error.code in PASSING) from None
        except (ValidationError, ValueError, AttributeError, TypeError, KeyError, RecursionError):
            raise FetchError(
                SkipReason.UNREACHABLE, "it gives no sound answer", transient=True
            ) from None

    def _redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "...") if len(secret) > 7 else text  # a real one has 16
        return text


def _query(dataset: FlickrDataset, wanted: SearchTerms) -> dict[str, Any]:
    query = {
        "text": wanted.text,
        "tags": ",".join(wanted.tags),
        "tag_mode": wanted.tag_mode,
        "license": ",".join(str(LICENCES[name][0]) for name in dataset.licences),
        "sort": "relevance",
        "media": "photos",
        "content_types": "0",
        "extras": EXTRAS,
        "per_page": str(PER_PAGE),
    }
    return {key: value for key, value in query.items() if value}


def _period(dataset: FlickrDataset) -> tuple[int, int]:
    start, end = dataset.uploaded_after, dataset.uploaded_before
    return (_seconds(start) if start else FIRST, _seconds(end) - 1 if end else LAST)


def _seconds(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp())


def _window(start: int, end: int) -> dict[str, str]:
    return {"min_upload_date": str(start), "max_upload_date": str(end)}


def _photo(found: _Found, dataset: FlickrDataset, label: str) -> Photo | None:
    """A photograph as the pin has it; None if it has no size to fetch, or another licence."""
    licence = LICENCE_NAMES.get(found.license)
    url = _address(found, dataset.sizes)
    if url is None or licence is None or (dataset.licences and licence not in dataset.licences):
        return None
    owner = _text(found.ownername) or found.owner
    return Photo(
        id=found.id,
        url=url,
        label=label,
        page=f"https://www.flickr.com/photos/{quote(found.owner, safe='@')}/{found.id}/",
        title=_text(found.title),
        owner=owner,
        group=found.owner,
        licence=licence,
    )


def _answers_another(found: _Found, dataset: FlickrDataset, label: str) -> bool:
    """By what is written of it: the search of the other class may list it where nobody looks."""
    tags = set(found.tags.split()) if isinstance(found.tags, str) else set()
    told = found.description.get("_content") if isinstance(found.description, dict) else None
    words = tags | {_tag(word) for text in (found.title, told) for word in str(text or "").split()}
    return any(
        _matches(wanted, tags, words) for other, wanted in dataset.classes.items() if other != label
    )


def _matches(wanted: SearchTerms, tags: set[str], words: set[str]) -> bool:
    """Whether a photograph answers a search, as far as its tags and words tell."""
    asked = [_tag(tag) in tags for tag in wanted.tags]
    tagged = any(asked) if wanted.tag_mode == "any" and asked else all(asked)
    return tagged and all(_tag(word) in words for word in wanted.text.split())


def _tag(written: str) -> str:
    return "".join(character for character in written.lower() if character.isalnum())


def _found(entry: object) -> _Found | None:
    """A result; None for one that makes no sense, which is no reason to lose the others."""
    try:
        return _Found.model_validate(entry)
    except ValidationError:
        return None


def _text(written: object) -> str | None:
    """What somebody wrote, on one line; None if it is nothing, or no text."""
    said = written.encode("utf-8", "replace").decode() if isinstance(written, str) else ""
    return " ".join(said.split()) or None


def _address(found: _Found, preferred: tuple[str, ...]) -> str | None:
    """The address of the first preferred size that exists, else of the one nearest to it."""
    given = found.model_extra or {}
    goal = math.log(FLICKR_SIDES[preferred[0]])
    nearest = sorted(FLICKR_SIDES, key=lambda size: abs(math.log(FLICKR_SIDES[size]) - goal))
    for size in (*preferred, *nearest):
        url = given.get(f"url_{size}")
        if isinstance(url, str) and url and url.isascii():
            return url
    return None
