"""Photographs from the web: fetch those of a CSV list, or those that a Flickr search returns."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pipeline.core.errors import PipelineError, format_counts
from pipeline.core.terminal import warn
from pipeline.datasets.dataset_toml import FlickrDataset
from pipeline.params import AcquireParams
from pipeline.stages.acquire import photo_list
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources.flickr_quota import MAX_FAILURES_IN_A_ROW, QuotaFiller
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import ContentStore, StoredBody
from pipeline.stages.acquire.web.fetch_photos import fetch_all

ROUNDING = 1e-9  # 0.29 * 100 is less than 29


def from_list(
    path: Path,
    licence: str | None,
    client: Client,
    store: ContentStore,
    params: AcquireParams,
    names: ClassNames,
    read: Callable[[Path], Iterator[Photo]] = photo_list.read_photos,
) -> Iterator[RawImage | SkippedItem]:
    """Yield the photographs of a list, in its order, in constant memory.

    Args:
        read: Reads the list.

    Raises:
        PipelineError: the file is not such a list, `names` refuses its classes, or more than
            `acquire.max_missing_fraction` of its photographs cannot be fetched.
    """
    labels = photo_list.count_labels(path, read(path))
    classes, total = names.settle(labels, path), labels.total()
    missing: Counter[str] = Counter()
    photos = (photo.model_copy(update={"label": classes[photo.label]}) for photo in read(path))
    results = fetch_all(photos, client, store, params, total)
    for number, (photo, result) in enumerate(results, start=1):
        if isinstance(result, SkipReason):
            missing[result.value] += 1
            if missing[SkipReason.UNREACHABLE] == number == MAX_FAILURES_IN_A_ROW:
                raise PipelineError(
                    f"none of the first {number} photographs of {path} is reachable: is there a "
                    "network?"
                )
            yield SkippedItem(photo.name, result, photo.label, photo.url)
            if missing.total() > params.max_missing_fraction * total + ROUNDING:
                raise PipelineError(
                    f"at least {missing.total()} of {total} photographs cannot be fetched "
                    f"({format_counts(missing)}), past acquire.max_missing_fraction="
                    f"{params.max_missing_fraction:g}: {_advice(path, missing)}"
                )
        else:
            yield photo.to_raw_image(store.read_photo(result), result.sha256, licence)


def from_search(
    dataset: FlickrDataset,
    folder: Path,
    client: Client,
    store: ContentStore,
    params: AcquireParams,
) -> Iterator[RawImage | SkippedItem]:
    """Yield as many photographs as dataset.toml wants, class by class, best results first.

    Raises:
        PipelineError: there is no API key, the search fails, or it returns too few.
    """
    from pipeline.stages.acquire.sources.flickr import FlickrSearch  # flickrapi: for searches only

    search = FlickrSearch(client)
    results = {label: search.find_photos(dataset, label) for label in dataset.classes}

    def fetch(
        photos: Iterable[Photo], total: int
    ) -> Iterator[tuple[Photo, StoredBody | SkipReason]]:
        return fetch_all(photos, client, store, params, total)

    selection = QuotaFiller(dataset, results, search.ambiguous_ids).fill(fetch)
    for photo, reason in selection.rejected():
        yield SkippedItem(photo.name, reason, photo.label, photo.url)
    counts, reasons = selection.count_accepted(), selection.count_rejected()
    _check_counts(counts, reasons, dataset, folder, params)
    for photo, body in selection.accepted():
        yield photo.to_raw_image(store.read_photo(body), body.sha256, dataset.licence)


def _advice(path: Path, missing: Counter[str]) -> str:
    if missing[SkipReason.PRIVATE_ADDRESS]:
        return "set acquire.allow_private=true if private addresses are meant"
    if missing[SkipReason.UNREACHABLE]:
        return "is there a network? Try again; downloaded photographs are not fetched again"
    return f"raise it, or remove from {path} what skipped.csv lists"


def _check_counts(
    counts: Counter[str],
    reasons: Counter[str],
    dataset: FlickrDataset,
    folder: Path,
    params: AcquireParams,
) -> None:
    """Print where a search returns fewer photographs than wanted; raise if far too few.

    Args:
        counts: Accepted photographs by label.
        reasons: Rejected photographs by reason.
    """
    per_class = sum(dataset.wanted.values())
    total = per_class * len(dataset.classes)
    short = [
        f"{counts[label]} of {per_class} {label}"
        for label in dataset.classes
        if counts[label] < per_class
    ]
    if not short:
        return
    message = f"the search gives {', '.join(short)} (left out: {format_counts(reasons)})"
    if total - counts.total() > params.max_missing_fraction * total + ROUNDING:
        raise PipelineError(
            f"{message}, past acquire.max_missing_fraction={params.max_missing_fraction:g}: search "
            f"for more or want fewer in {folder}/dataset.toml, or raise it"
        )
    warn(f"acquire: {message}")
