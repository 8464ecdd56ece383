"""A fake Flickr: the API and the photo host on one port of this machine.

As a process: python -m tests.fakes.flickr --photos car=1600 --port 0
"""

import argparse
import hashlib
import json
import re
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import parse_qsl, quote, unquote

from tests.fakes.api import ApiError, ReplayError, Search, SignatureChecker
from tests.fakes.faults import NAMED, Plan, every, first_of
from tests.fakes.photos import SUFFIXES, FakePhoto, jpeg, photos, placeholder
from tests.fakes.serving import Raw, Reply, Server

KEY = "k" * 32
SECRET = "s" * 16
API = "/services/rest/"
UNAVAILABLE = "/pw/images/en-us/photo_unavailable.png"
RECORD = "/__record__"
FILES = "/files/"
PHOTO = re.compile(r"/\d+/(?P<id>\d+)_(?P<secret>[0-9a-f]+)(_[a-z]+)?\.jpg")
RANGE = re.compile(r"bytes=(\d*)-(\d*)")
GONE = Reply(404, b"Not found", {"Content-Type": "text/plain"})


@dataclass(frozen=True)
class File:
    """A file that `serve` added."""

    data: bytes
    etag: str
    modified: str
    ranges: bool


class FakeFlickr(Server):
    """Serves while the context lasts; its options may be changed meanwhile."""

    def __init__(
        self,
        photos: Iterable[FakePhoto] = (),
        *,
        port: int = 0,
        key: str = KEY,
        secret: str = SECRET,
        plan: Plan | None = None,
        latency: float = 0.0,
        growing: bool = False,
        repeats: int = 0,
        removed: Iterable[str] = (),
        photo_bytes: int | None = None,
        side: int = 64,
    ) -> None:
        super().__init__(port, latency, plan)
        self.key, self.secret = key, secret
        self.removed = set(removed)
        self.photo_bytes, self.side = photo_bytes, side
        self.search = Search([], growing, repeats)
        self._signatures = SignatureChecker(key, secret)
        self._photos: dict[str, FakePhoto] = {}
        self._files: dict[str, File] = {}
        self._placeholder = placeholder()
        self.add(photos)

    def add(self, photos: Iterable[FakePhoto]) -> None:
        """Add photos to what a search finds."""
        for photo in photos:
            assert photo.id not in self._photos, f"two photos are called {photo.id}"
            self._photos[photo.id] = photo
            self.search.photos.append(photo)

    def serve(
        self,
        path: str,
        data: bytes,
        *,
        etag: str | None = None,
        modified: float = 1_500_000_000,
        ranges: bool = True,
    ) -> str:
        """Serve a file under /files/ and return its URL; `etag=""` sends no ETag."""
        if etag is None:
            etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        self._files[path] = File(data, etag, formatdate(modified, usegmt=True), ranges)
        return self.url(FILES + quote(path))

    @property
    def api_url(self) -> str:
        """The REST_URL for clients."""
        return self.url(API)

    def photo_bytes_of(self, photo: FakePhoto, size: str) -> bytes:
        """The bytes that the host sends for a photo."""
        return jpeg(photo, size, self.photo_bytes, self.side)

    def route(self, raw: Raw) -> tuple[str, Mapping[str, str], Reply]:
        path = raw.target.partition("?")[0]
        if path == API:
            form = dict(parse_qsl(raw.body.decode()))
            public = {name: form[name] for name in form if not name.startswith(("api_", "oauth_"))}
            return "api", public, self._api(raw, form)
        if path.startswith(FILES):
            file = self._files.get(unquote(path.removeprefix(FILES)))
            return "file", {}, GONE if file is None else _file(file, raw.headers)
        if path == RECORD:
            return "record", {}, _json(self.record())
        if path == UNAVAILABLE:
            return "placeholder", {}, Reply(200, self._placeholder, {"Content-Type": "image/png"})
        return "photo", {}, self._photo(path)

    def _api(self, raw: Raw, form: Mapping[str, str]) -> Reply:
        if raw.method != "POST":
            return Reply(405, b"POST only")
        url = f"http://{raw.headers['host']}{raw.target}"
        try:
            self._signatures.check(url, raw.headers.get("authorization", ""), raw.body.decode())
            return _json(self._call(form), callback="nojsoncallback" not in form)
        except ApiError as error:
            return _json(error.response)
        except ReplayError:
            return Reply(401, b"oauth_problem=nonce_used", {"Content-Type": "text/plain"})

    def _call(self, form: Mapping[str, str]) -> dict[str, object]:
        method = form.get("method", "")
        if method != "flickr.photos.search":
            raise ApiError(112, f'Method "{method}" not found')
        if form.get("format") != "json":
            raise ApiError(111, f'Format "{form.get("format")}" not found')
        return self.search.respond(form, self.url())

    def _photo(self, path: str) -> Reply:
        match = PHOTO.fullmatch(path)
        photo = self._photos.get(match["id"]) if match else None
        if match is None or photo is None or photo.secret != match["secret"]:
            return GONE
        if photo.id in self.removed:
            return Reply(302, b"", {"Location": UNAVAILABLE})
        size = next((size for size in sorted(photo.sizes) if photo.path(size) == path), None)
        if size is None:
            return GONE
        headers = {
            "Content-Type": "image/jpeg",
            "ETag": f'"{photo.secret}{SUFFIXES[size]}"',
            "Last-Modified": formatdate(photo.uploaded, usegmt=True),
        }
        return Reply(200, self.photo_bytes_of(photo, size), headers)


def _json(content: dict[str, object], *, callback: bool = False) -> Reply:
    body = json.dumps(content, separators=(",", ":"))
    body = f"jsonFlickrApi({body})" if callback else body
    return Reply(200, body.encode(), {"Content-Type": "application/json; charset=utf-8"})


def _file(file: File, request_headers: Mapping[str, str]) -> Reply:
    headers = {"Content-Type": "application/octet-stream", "Last-Modified": file.modified}
    if file.etag:
        headers["ETag"] = file.etag
    if not file.ranges:
        return Reply(200, file.data, headers)
    headers["Accept-Ranges"] = "bytes"
    span = _span(request_headers.get("range", ""), len(file.data))
    validator = request_headers.get("if-range")
    # A weak ETag never matches: the bytes may differ.
    is_same = validator in (None, file.modified, file.etag)
    if span is None or not is_same or (validator or "").startswith("W/"):
        return Reply(200, file.data, headers)
    if not span:
        return Reply(416, b"", headers | {"Content-Range": f"bytes */{len(file.data)}"})
    headers["Content-Range"] = f"bytes {span[0]}-{span[-1]}/{len(file.data)}"
    return Reply(206, file.data[span.start : span.stop], headers)


def _span(header: str, length: int) -> range | None:
    """The requested bytes: empty if they are outside, None if the header is not a range."""
    match = RANGE.fullmatch(header)
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return range(max(length - int(last), 0), length)
    return range(int(first), min(int(last) + 1 if last else length, length))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fakes.flickr", description=__doc__)
    parser.add_argument("--photos", action="append", default=[], metavar="WORD[+WORD]=COUNT")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", default=KEY)
    parser.add_argument("--secret", default=SECRET)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--growing", action="store_true")
    parser.add_argument("--repeats", type=int, default=0)
    parser.add_argument("--remove-every", type=int, default=0, metavar="N")
    parser.add_argument("--photo-bytes", type=int)
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND=N:NAME,NAME",
        help="every N-th response of a kind (api, photo) fails: " + ", ".join(NAMED),
    )
    return parser.parse_args()


def _parse_photos(option: str) -> list[FakePhoto]:
    words, _, count = option.rpartition("=")
    keyword, *also = words.split("+")
    return photos(keyword, int(count), also=also)


def _parse_fault(option: str) -> Plan:
    kind, _, rest = option.partition("=")
    count, _, names = rest.partition(":")
    return every(int(count), *(NAMED[name] for name in names.split(",")), kind=kind)


def main() -> None:
    """Serve until SIGTERM or SIGINT; the first line printed is the port."""
    options = _arguments()
    all_photos = [photo for option in options.photos for photo in _parse_photos(option)]
    step = options.remove_every
    removed = [photo.id for photo in all_photos[::step]] if step else []
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # inherited by the thread
    with FakeFlickr(
        all_photos,
        port=options.port,
        key=options.key,
        secret=options.secret,
        latency=options.latency,
        plan=first_of(*map(_parse_fault, options.fault)),
        growing=options.growing,
        repeats=options.repeats,
        removed=removed,
        photo_bytes=options.photo_bytes,
        side=options.side,
    ) as fake:
        print(fake.port, flush=True)
        signal.sigwait(signals)


if __name__ == "__main__":
    main()
