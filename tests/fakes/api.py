"""The API of the fake Flickr: OAuth signatures and flickr.photos.search."""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from tests.fakes.photos import SERVER, SUFFIXES, FakePhoto

# Without types, hence imported by name.
signing = importlib.import_module("oauthlib.oauth1.rfc5849.signature")
utils = importlib.import_module("oauthlib.oauth1.rfc5849.utils")

REACHABLE = 4000
PAGE = 100
LARGEST_PAGE = 500


class ApiError(Exception):
    """A response of `stat: fail`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.response = {"stat": "fail", "code": code, "message": message}


class ReplayError(Exception):
    """A nonce was used before."""


class SignatureChecker:
    """Checks the OAuth 1 signature of every call."""

    def __init__(self, key: str, secret: str) -> None:
        self.key, self.secret = key, secret
        self.nonces: set[str] = set()

    def check(self, url: str, authorization: str, body: str) -> None:
        """Raise ApiError or ReplayError unless this POST is signed, with a new nonce."""
        try:
            oauth = dict(utils.parse_authorization_header(authorization))
            headers = {"Authorization": authorization}
            params = signing.collect_parameters(body=body, headers=headers)
        except ValueError:
            oauth, params = {}, []
        if oauth.get("oauth_consumer_key") != self.key:
            raise ApiError(100, "Invalid API Key (Key has invalid format)")
        signature = utils.unescape(oauth.get("oauth_signature", ""))
        request = SimpleNamespace(uri=url, http_method="POST", params=params, signature=signature)
        if not signing.verify_hmac_sha1(request, self.secret, ""):
            raise ApiError(96, "Invalid signature")
        nonce = oauth["oauth_nonce"]
        if nonce in self.nonces:
            raise ReplayError
        self.nonces.add(nonce)


@dataclass
class Search:
    """flickr.photos.search."""

    photos: list[FakePhoto]
    growing: bool = False
    """Every response states one page more than the one before."""
    repeats: int = 0
    """How many photos of the page before are on each page again."""
    responses: int = 0

    def respond(self, form: Mapping[str, str], host: str) -> dict[str, Any]:
        """Return the JSON response; URLs of photos start with `host`."""
        if not any(form.get(name) for name in ("text", "tags", "min_upload_date", "user_id")):
            raise ApiError(3, "Parameterless searches have been disabled.")
        results = _sort(filter(_Query(form).matches, self.photos), form.get("sort", ""))
        per_page = min(_number(form, "per_page", PAGE), LARGEST_PAGE)
        page = _number(form, "page", 1)
        total = len(results) + (per_page * self.responses if self.growing else 0)
        self.responses += 1
        extras = {extra.strip() for extra in form.get("extras", "").split(",")}
        photos = {
            "page": page,
            "pages": -(-total // per_page),
            "perpage": per_page,
            "total": total,
            "photo": [_entry(photo, extras, host) for photo in self._page(results, page, per_page)],
        }
        return {"photos": photos, "stat": "ok"}

    def _page(self, results: list[FakePhoto], page: int, per_page: int) -> list[FakePhoto]:
        start = (page - 1) * per_page
        if len(results) > REACHABLE:
            start %= REACHABLE  # further pages repeat earlier ones
        before = results[max(start - self.repeats, 0) : start]
        return before + results[start : min(start + per_page, REACHABLE)]


class _Query:
    """The parameters of a search."""

    def __init__(self, form: Mapping[str, str]) -> None:
        self.text = form.get("text", "").lower()
        tags = [_tag(tag) for tag in form.get("tags", "").split(",")]
        self.tags = [tag for tag in tags if tag]
        self.join = all if form.get("tag_mode") == "all" else any
        self.licences = {int(number) for number in form.get("license", "").split(",") if number}
        self.earliest = float(form.get("min_upload_date") or 0)
        self.latest = float(form.get("max_upload_date") or "inf")

    def matches(self, photo: FakePhoto) -> bool:
        """Both dates are inclusive."""
        return (
            self.earliest <= photo.uploaded <= self.latest
            and (not self.licences or photo.licence in self.licences)
            and self._matches_keywords(photo)
        )

    def _matches_keywords(self, photo: FakePhoto) -> bool:
        keywords, tags = _normalize(photo.keywords)
        if self.text and self.text not in keywords and not keywords.issuperset(self.text.split()):
            return False
        return not self.tags or self.join(tag in tags for tag in self.tags)


@lru_cache
def _normalize(keywords: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The keywords as words of a text search and as tags."""
    lower = frozenset(keyword.lower() for keyword in keywords)
    return lower, frozenset(map(_tag, lower))


def _tag(keyword: str) -> str:
    return "".join(filter(str.isalnum, keyword.lower()))


def _number(form: Mapping[str, str], name: str, default: int) -> int:
    value = form.get(name, "")
    return max(int(value), 1) if value.isdigit() else default


def _sort(photos: Iterable[FakePhoto], sort: str) -> list[FakePhoto]:
    """By default, the newest come first, as with Flickr."""
    if sort == "relevance" or sort.startswith("interestingness"):
        return list(photos)
    newest = not sort.endswith("-asc")
    return sorted(photos, key=lambda photo: (photo.uploaded, photo.id), reverse=newest)


def _entry(photo: FakePhoto, extras: set[str], host: str) -> dict[str, Any]:
    known: dict[str, dict[str, Any]] = {
        "license": {"license": str(photo.licence)},
        "owner_name": {"ownername": photo.ownername},
        "date_upload": {"dateupload": str(photo.uploaded)},
        "path_alias": {"pathalias": photo.path_alias},
        "tags": {"tags": " ".join(sorted(_tag(keyword) for keyword in photo.keywords))},
        "media": {"media": "photo", "media_status": "ready"},
    }
    entry: dict[str, Any] = {
        "id": photo.id,
        "owner": photo.owner,
        "secret": photo.secret,
        "server": SERVER,
        "farm": 66,
        "title": photo.title,
        "ispublic": 1,
        "isfriend": 0,
        "isfamily": 0,
    }
    for extra in sorted(extras & known.keys()):
        entry |= known[extra]
    for size in (size for size in SUFFIXES if f"url_{size}" in extras and size in photo.sizes):
        height, width = photo.shape(size)
        entry |= {f"url_{size}": host + photo.path(size)}
        entry |= {f"height_{size}": height, f"width_{size}": width}
    return entry
