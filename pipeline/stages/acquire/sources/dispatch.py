"""The source of a data set: what dataset.toml names, or `dataset.source` in its place."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipeline.core.errors import PipelineError
from pipeline.params import AS_DESCRIBED, AcquireParams
from pipeline.stages.acquire import dataset_toml
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem
from pipeline.stages.acquire.sources import digits, files, sample, web_photos
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import ContentStore
from pipeline.stages.acquire.web.download import ExpectedFile, download


def acquire_images(
    folder: Path, source: str, params: AcquireParams
) -> Iterator[RawImage | SkippedItem]:
    """Every file of the data set described in `folder`, in the order of its source's listing.

    Args:
        source: A folder, an archive or its URL, or a CSV list, to take instead of what
            dataset.toml names, or `datasets`.
    """
    dataset = dataset_toml.load(folder)
    if isinstance(dataset, dataset_toml.SampleDataset | dataset_toml.DigitsDataset):
        _refuse_source(folder, source)
        match dataset:
            case dataset_toml.SampleDataset():
                yield from sample.draw_images(dataset)
            case dataset_toml.DigitsDataset():
                yield from digits.read_images(dataset)
        return
    with Client(params) as client, ContentStore() as store:
        if source != AS_DESCRIBED:
            yield from _instead(source, dataset, client, store, params)
        elif dataset_toml.pin_path(folder).exists():
            print(f"acquire: as pinned in {dataset_toml.pin_path(folder)}")
            yield from web_photos.from_list(
                dataset_toml.pin_path(folder), dataset.licence, client, store, params
            )
        else:
            yield from _described(folder, dataset, client, store, params)


def _refuse_source(folder: Path, source: str) -> None:
    if source != AS_DESCRIBED:
        raise PipelineError(
            f"dataset.source={source} has no meaning for {folder}, which makes its own images: use "
            f"-S dataset.source={AS_DESCRIBED}, or -S dataset.name=images for your own photographs"
        )


def _instead(
    source: str,
    dataset: dataset_toml.ExternalDataset,
    client: Client,
    store: ContentStore,
    params: AcquireParams,
) -> Iterator[RawImage | SkippedItem]:
    # Not what dataset.toml describes: its checksums are those of another file.
    print(f"acquire: from {source}")
    suffix = PurePosixPath(source.partition("?")[0]).suffix.lower()
    if source.startswith(("http://", "https://")):
        path = download(source, ExpectedFile(), client, store, params.max_gigabytes * 1e9)
    else:
        path = Path(source).expanduser()
    if suffix == ".csv":
        return web_photos.from_list(path, dataset.licence, client, store, params)
    return files.read_images(path, dataset, params)


def _described(
    folder: Path,
    dataset: dataset_toml.ExternalDataset,
    client: Client,
    store: ContentStore,
    params: AcquireParams,
) -> Iterator[RawImage | SkippedItem]:
    match dataset:
        case dataset_toml.FlickrDataset():
            return web_photos.from_search(dataset, folder, client, store, params)
        case dataset_toml.UrlsDataset():
            return web_photos.from_list(
                folder / dataset.path, dataset.licence, client, store, params
            )
        case dataset_toml.ArchiveDataset(url=str(url)):
            expected = ExpectedFile(dataset.size, dataset.sha256, dataset.md5)
            path = download(url, expected, client, store, params.max_gigabytes * 1e9)
            return files.read_images(path, dataset, params)
        case (
            dataset_toml.FolderDataset(path=str(path)) | dataset_toml.ArchiveDataset(path=str(path))
        ):
            return files.read_images(folder / path, dataset, params)
    raise PipelineError(
        f"{folder} needs to know where the photographs are: -S dataset.source=/absolute/path, a "
        "folder or archive with one folder per class, or a CSV file with the columns url,label"
    )
