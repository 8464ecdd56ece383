"""Fetch many photographs concurrently: from the store if possible, else from their URLs."""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from threading import Lock
from weakref import WeakValueDictionary

from pipeline.core.errors import format_counts
from pipeline.core.progress import bar
from pipeline.params import AcquireParams
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import BodyBuffer, ContentStore, StoredBody
from pipeline.stages.acquire.web.fetch_error import FetchError
from pipeline.stages.acquire.web.ordered_threads import map_in_order
from pipeline.stages.acquire.web.response import BLANK, is_markup

# Flickr redirects a removed photograph to an image of this name.
PLACEHOLDER = "photo_unavailable"


def fetch_all(
    photos: Iterable[Photo],
    client: Client,
    store: ContentStore,
    params: AcquireParams,
    total: int | None,
) -> Iterator[tuple[Photo, StoredBody | SkipReason]]:
    """Yield every photo, in order, with its bytes in the store or the reason why it failed."""
    fetch = partial(_fetch, client, store, params, _UrlLocks())
    results = map_in_order(fetch, photos, params.workers)
    reasons: Counter[str] = Counter()
    with bar("acquire", total) as progress:
        for photo, result in results:
            if isinstance(result, SkipReason):
                reasons[result.value] += 1
                progress.note = format_counts(reasons)
            progress.update()
            yield photo, result


class _UrlLocks:
    """One lock per URL being fetched, so that a URL listed twice is requested once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._locks: WeakValueDictionary[str, Lock] = WeakValueDictionary()

    def lock_of(self, url: str) -> Lock:
        with self._lock:
            return self._locks.setdefault(url, Lock())


def _fetch(
    client: Client, store: ContentStore, params: AcquireParams, locks: _UrlLocks, photo: Photo
) -> tuple[Photo, StoredBody | SkipReason]:
    max_bytes = params.max_file_megabytes * 1e6
    try:
        with locks.lock_of(photo.url):
            body = store.find_photo(photo.url, photo.sha256)
            if body is None:
                body = client.retry(partial(_download, client, store, photo, max_bytes))
    except FetchError as error:
        return photo, error.reason
    # Checked here as well: an earlier run may have stored it under other params.
    if body.size > max_bytes:
        return photo, SkipReason.TOO_LARGE
    if body.opted_out and params.respect_robots:
        return photo, SkipReason.ROBOTS
    return photo, body


def _download(client: Client, store: ContentStore, photo: Photo, max_bytes: float) -> StoredBody:
    with client.open(photo.url) as response, BodyBuffer(store.folder) as body:
        if PLACEHOLDER in response.url and response.url != photo.url:
            raise FetchError(SkipReason.GONE, f"{photo.url} redirects to a placeholder")
        start = b""
        for block in response.blocks(max_bytes):
            start = start or block.lstrip(BLANK)
            body.write(block)
        if not start or is_markup(start):
            raise FetchError(SkipReason.NOT_AN_IMAGE, f"{photo.url} is a web page, or empty")
        if photo.sha256 and body.sha256 != photo.sha256:
            raise FetchError(SkipReason.CHANGED, f"{photo.url} has changed since it was pinned")
        return store.add_photo(photo.url, body, response.opted_out)
