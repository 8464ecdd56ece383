"""What the API says: who may ask, and which photos a search finds."""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from tests.fakes.photos import SERVER, SUFFIXES, FakePhoto

# Neither has types, and whether the project's settings allow that is not this file's to know.
signing = importlib.import_module("oauthlib.oauth1.rfc5849.signature")
utils = importlib.import_module("oauthlib.oauth1.rfc5849.utils")

REACHABLE = 4000
PAGE = 100
LARGEST_PAGE = 500


class Refused(Exception):
    """An answer of `stat: fail`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.answer = {"stat": "fail", "code": code, "message": message}


class Replayed(Exception):
    """A nonce was used before."""


class Gate:
    """Checks the OAuth 1 signature of every call."""

    def __init__(self, key: str, secret: str) -> None:
        self.key, self.secret = key, secret
        self.nonces: set[str] = set()

    def check(self, url: str, authorization: str, body: str) -> None:
        """Raise Refused or Replayed unless this POST is signed, and for the first time."""
        try:
            oauth = dict(utils.parse_authorization_header(authorization))
            headers = {"Authorization": authorization}
            params = signing.collect_parameters(body=body, headers=headers)
        except ValueError:
            oauth, params = {}, []
        if oauth.get("oauth_consumer_key") != self.key:
            raise Refused(100, "Invalid API Key (Key has invalid format)")
        signature = utils.unescape(oauth.get("oauth_signature", ""))
        asked = SimpleNamespace(uri=url, http_method="POST", params=params, signature=signature)
        if not signing.verify_hmac_sha1(asked, self.secret, ""):
            raise Refused(96, "Invalid signature")
        nonce = oauth["oauth_nonce"]
        if nonce in self.nonces:
            raise Replayed
        self.nonces.add(nonce)


@dataclass
class Search:
    """flickr.photos.search."""

    photos: list[FakePhoto]
    growing: bool = False
    """Every answer tells of one page more than the answer before."""
    repeats: int = 0
    """How many photos of the page before each page has too."""
    answers: int = 0

    def answer(self, form: Mapping[str, str], host: str) -> dict[str, Any]:
        """The JSON answer; addresses of photos start with `host`."""
        if not any(form.get(name) for name in ("text", "tags", "min_upload_date", "user_id")):
            raise Refused(3, "Parameterless searches have been disabled.")
        found = _ordered(filter(_Asked(form).finds, self.photos), form.get("sort", ""))
        per_page = min(_number(form, "per_page", PAGE), LARGEST_PAGE)
        page = _number(form, "page", 1)
        total = len(found) + (per_page * self.answers if self.growing else 0)
        self.answers += 1
        extras = {each.strip() for each in form.get("extras", "").split(",")}
        photos = {
            "page": page,
            "pages": -(-total // per_page),
            "perpage": per_page,
            "total": total,
            "photo": [_entry(each, extras, host) for each in self._page(found, page, per_page)],
        }
        return {"photos": photos, "stat": "ok"}

    def _page(self, found: list[FakePhoto], page: int, per_page: int) -> list[FakePhoto]:
        start = (page - 1) * per_page
        if len(found) > REACHABLE:
            start %= REACHABLE  # past the last one that can be reached, all begins again
        before = found[max(start - self.repeats, 0) : start]
        return before + found[start : min(start + per_page, REACHABLE)]


class _Asked:
    """Which photos a search is for."""

    def __init__(self, form: Mapping[str, str]) -> None:
        self.text = form.get("text", "").lower()
        tags = [_tag(each) for each in form.get("tags", "").split(",")]
        self.tags = [each for each in tags if each]
        self.join = all if form.get("tag_mode") == "all" else any
        self.licences = {int(each) for each in form.get("license", "").split(",") if each}
        self.earliest = float(form.get("min_upload_date") or 0)
        self.latest = float(form.get("max_upload_date") or "inf")

    def finds(self, photo: FakePhoto) -> bool:
        """Both ends of the dates are inside."""
        return (
            self.earliest <= photo.uploaded <= self.latest
            and (not self.licences or photo.licence in self.licences)
            and self._answers(photo)
        )

    def _answers(self, photo: FakePhoto) -> bool:
        answers, tags = _said(photo.answers)
        if self.text and self.text not in answers and not answers.issuperset(self.text.split()):
            return False
        return not self.tags or self.join(each in tags for each in self.tags)


@lru_cache
def _said(keywords: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The keywords as a text search and as a tag search compare them."""
    lower = frozenset(each.lower() for each in keywords)
    return lower, frozenset(map(_tag, lower))


def _tag(keyword: str) -> str:
    return "".join(filter(str.isalnum, keyword.lower()))


def _number(form: Mapping[str, str], name: str, default: int) -> int:
    said = form.get(name, "")
    return max(int(said), 1) if said.isdigit() else default


def _ordered(photos: Iterable[FakePhoto], sort: str) -> list[FakePhoto]:
    """Without a known order, the newest come first, as with Flickr."""
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
        "tags": {"tags": " ".join(sorted(_tag(each) for each in photo.answers))},
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
