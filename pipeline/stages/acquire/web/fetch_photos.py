"""Many photographs at once: from the store where they are known, else from their addresses."""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from threading import Lock
from weakref import WeakValueDictionary

from pipeline.core.progress import bar
from pipeline.params import AcquireParams
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import BodyBuffer, ContentStore, StoredBody
from pipeline.stages.acquire.web.fetch_error import FetchError
from pipeline.stages.acquire.web.ordered_threads import map_in_order
from pipeline.stages.acquire.web.response import BLANK, is_page

# Flickr redirects a photograph that was removed to a picture of this name.
PLACEHOLDER = "photo_unavailable"


def fetch_all(
    photos: Iterable[Photo],
    client: Client,
    store: ContentStore,
    params: AcquireParams,
    total: int | None,
) -> Iterator[tuple[Photo, StoredBody | SkipReason]]:
    """Yield every photo, in order, with where its bytes are or the reason why there is none."""
    fetch = partial(_fetch, client, store, params, _Turns())
    fetched = map_in_order(fetch, photos, params.workers)
    reasons: Counter[str] = Counter()
    with bar("acquire", total) as shown:
        for photo, result in fetched:
            if isinstance(result, SkipReason):
                reasons[result.value] += 1
                shown.set_postfix(reasons, refresh=False)
            shown.update()
            yield photo, result


class _Turns:
    """One lock for each address that somebody asks just now: a list may have it twice."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._of: WeakValueDictionary[str, Lock] = WeakValueDictionary()

    def of(self, url: str) -> Lock:
        with self._lock:
            return self._of.setdefault(url, Lock())


def _fetch(
    client: Client, store: ContentStore, params: AcquireParams, turns: _Turns, photo: Photo
) -> tuple[Photo, StoredBody | SkipReason]:
    most = params.max_file_megabytes * 1e6
    try:
        with turns.of(photo.url):
            known = store.find_photo(photo.url, photo.sha256)
            if known is None:
                known = client.retry(partial(_download, client, store, photo, most))
    except FetchError as failure:
        return photo, failure.reason
    # What came under other rules, in a run before.
    if known.size > most:
        return photo, SkipReason.TOO_LARGE
    if known.opted_out and params.respect_robots:
        return photo, SkipReason.ROBOTS
    return photo, known


def _download(client: Client, store: ContentStore, photo: Photo, most: float) -> StoredBody:
    with client.open(photo.url) as answer, BodyBuffer(store.folder) as body:
        if PLACEHOLDER in answer.url and answer.url != photo.url:
            raise FetchError(SkipReason.GONE, f"{photo.url} leads to a placeholder")
        start = b""
        for block in answer.blocks(most):
            start = start or block.lstrip(BLANK)
            body.write(block)
        if not start or is_page(start):
            raise FetchError(SkipReason.NOT_AN_IMAGE, f"{photo.url} is a web page, or nothing")
        if photo.sha256 and body.sha256 != photo.sha256:
            raise FetchError(SkipReason.CHANGED, f"{photo.url} has other bytes than were pinned")
        return store.add_photo(photo.url, body, answer.opted_out)
