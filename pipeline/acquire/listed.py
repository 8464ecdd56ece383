"""Photographs that have addresses: a list of them, or what a search finds, become raw images."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipeline.acquire import photos
from pipeline.acquire.collect import Collection
from pipeline.acquire.dataset import Flickr
from pipeline.acquire.photos import Photo
from pipeline.acquire.raw import RawImage, Reason, Skipped
from pipeline.acquire.web.fetch import fetch_all
from pipeline.acquire.web.http import Client
from pipeline.acquire.web.store import Kept, Store
from pipeline.errors import PipelineError
from pipeline.params import Acquire


def from_list(
    path: Path, licence: str | None, client: Client, store: Store, limits: Acquire
) -> Iterator[RawImage | Skipped]:
    """The photographs that a CSV file lists, in its order, however many there are.

    Raises:
        PipelineError: the file is not such a list, or more than `acquire.max_missing_fraction` of
            its photographs are gone.
    """
    total = photos.count(path)
    missing: Counter[str] = Counter()
    for photo, result in fetch_all(photos.read(path), client, store, limits, total):
        if isinstance(result, Reason):
            missing[result.value] += 1
            yield Skipped(photo.name, result, photo.label, photo.url)
            advice = f"raise it, or take out of {path} what skipped.csv names"
            _check_missing(missing.total(), total, missing, advice, limits)
        else:
            yield photo.image(store.read(result), result.sha256, licence)


def from_search(
    dataset: Flickr, folder: Path, client: Client, store: Store, limits: Acquire
) -> Iterator[RawImage | Skipped]:
    """Exactly the photographs that dataset.toml wants, class by class, best results first.

    Raises:
        PipelineError: there is no key, the search fails, or finds too few.
    """
    from pipeline.acquire.flickr import Search  # its imports are for those who search

    search = Search(client)
    searches = {label: search.photos(dataset, label) for label in dataset.classes}
    fetch = partial(_fetch_batch, client=client, store=store, limits=limits)
    chosen, refused = Collection(dataset, searches, search.contested).complete(fetch)
    for photo, reason in refused:
        yield Skipped(photo.name, reason, photo.label, photo.url)
    total = sum(dataset.wanted.values()) * len(dataset.classes)
    reasons = Counter(reason.value for _, reason in refused)
    advice = f"raise it, or search for more or want fewer in {folder}/dataset.toml"
    _check_missing(total - len(chosen), total, reasons, advice, limits)
    for photo, kept in chosen:
        yield photo.image(store.read(kept), kept.sha256, dataset.licence)


def _fetch_batch(
    wanted: list[Photo], client: Client, store: Store, limits: Acquire
) -> Iterator[tuple[Photo, Kept | Reason]]:
    return fetch_all(wanted, client, store, limits, len(wanted))


def _check_missing(
    missing: int, total: int, reasons: Counter[str], advice: str, limits: Acquire
) -> None:
    if total and missing / total > limits.max_missing_fraction:
        counted = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
        raise PipelineError(
            f"at least {missing} of {total} photographs cannot be had (left out: "
            f"{counted or 'none'}), past acquire.max_missing_fraction="
            f"{limits.max_missing_fraction:g}: {advice}"
        )
