"""Photographs that have addresses: a list of them, or what a search finds, become raw images."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipeline.core.errors import PipelineError, counted
from pipeline.params import AcquireParams
from pipeline.stages.acquire import photo_list
from pipeline.stages.acquire.dataset_toml import FlickrDataset
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources.flickr_quota import HOPELESS, QuotaFiller
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import ContentStore, StoredBody
from pipeline.stages.acquire.web.fetch_photos import fetch_all

EXACT = 1e-9  # 0.29 * 100 is less than 29


def from_list(
    path: Path, licence: str | None, client: Client, store: ContentStore, params: AcquireParams
) -> Iterator[RawImage | SkippedItem]:
    """The photographs that a CSV file lists, in its order, however many there are.

    Raises:
        PipelineError: the file is not such a list, or more than `acquire.max_missing_fraction` of
            its photographs are gone.
    """
    total = photo_list.count_photos(path)
    missing: Counter[str] = Counter()
    fetched = fetch_all(photo_list.read_photos(path), client, store, params, total)
    for seen, (photo, result) in enumerate(fetched, start=1):
        if isinstance(result, SkipReason):
            missing[result.value] += 1
            if missing[SkipReason.UNREACHABLE] == seen == HOPELESS:
                raise PipelineError(
                    f"none of the first {HOPELESS} photographs of {path} is reachable: is there a "
                    "network?"
                )
            yield SkippedItem(photo.name, result, photo.label, photo.url)
            if missing.total() > params.max_missing_fraction * total + EXACT:
                raise PipelineError(
                    f"at least {missing.total()} of {total} photographs cannot be had "
                    f"({counted(missing)}), past acquire.max_missing_fraction="
                    f"{params.max_missing_fraction:g}: {_advice(path, missing)}"
                )
        else:
            yield photo.image(store.read_photo(result), result.sha256, licence)


def from_search(
    dataset: FlickrDataset, folder: Path, client: Client, store: ContentStore, params: AcquireParams
) -> Iterator[RawImage | SkippedItem]:
    """Exactly the photographs that dataset.toml wants, class by class, best results first.

    Raises:
        PipelineError: there is no key, the search fails, or finds too few.
    """
    from pipeline.stages.acquire.sources.flickr import (
        FlickrSearch,  # its imports are for those who search
    )

    search = FlickrSearch(client)
    searches = {label: search.find_photos(dataset, label) for label in dataset.classes}
    fetch = partial(_fetch_batch, client=client, store=store, params=params)
    chosen, refused = QuotaFiller(dataset, searches, search.ambiguous_ids).fill(fetch)
    for photo, reason in refused:
        yield SkippedItem(photo.name, reason, photo.label, photo.url)
    _check_short(chosen, refused, dataset, folder, params)
    for photo, kept in chosen:
        yield photo.image(store.read_photo(kept), kept.sha256, dataset.licence)


def _fetch_batch(
    wanted: list[Photo], client: Client, store: ContentStore, params: AcquireParams
) -> Iterator[tuple[Photo, StoredBody | SkipReason]]:
    return fetch_all(wanted, client, store, params, len(wanted))


def _advice(path: Path, missing: Counter[str]) -> str:
    if missing[SkipReason.PRIVATE_ADDRESS]:
        return "set acquire.allow_private=true if private addresses are meant"
    if missing[SkipReason.UNREACHABLE]:
        return "is there a network? Try again; what came is kept"
    return f"raise it, or take out of {path} what skipped.csv names"


def _check_short(
    chosen: list[tuple[Photo, StoredBody]],
    refused: list[tuple[Photo, SkipReason]],
    dataset: FlickrDataset,
    folder: Path,
    params: AcquireParams,
) -> None:
    """Say where a search finds fewer than wanted; refuse it where they are far too few."""
    have = Counter(photo.label for photo, _ in chosen)
    wanted = sum(dataset.wanted.values())
    total = wanted * len(dataset.classes)
    short = [f"{have[name]} of {wanted} {name}" for name in dataset.classes if have[name] < wanted]
    if not short:
        return
    reasons = Counter(reason.value for _, reason in refused)
    said = f"the search gives {', '.join(short)} (left out: {counted(reasons)})"
    if total - len(chosen) > params.max_missing_fraction * total + EXACT:
        raise PipelineError(
            f"{said}, past acquire.max_missing_fraction={params.max_missing_fraction:g}: search "
            f"for more or want fewer in {folder}/dataset.toml, or raise it"
        )
    print(f"acquire: {said}")
