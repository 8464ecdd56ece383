"""Choose the source of a data set: dataset.toml, its pin, or `dataset.source`."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipeline.core.errors import PipelineError
from pipeline.core.terminal import print_line
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
    """Yield every image of the data set described in `folder`, in the order of its source.

    Args:
        source: `dataset.source`: a folder, an archive or its URL, or a CSV list, which overrides
            dataset.toml; or `datasets` for what dataset.toml describes.
    """
    dataset = dataset_toml.load(folder)
    if isinstance(dataset, dataset_toml.SampleDataset | dataset_toml.DigitsDataset):
        _check_no_source(folder, source)
        match dataset:
            case dataset_toml.SampleDataset():
                yield from sample.draw_images(dataset)
            case dataset_toml.DigitsDataset():
                yield from digits.read_images(dataset)
        return
    pin = dataset_toml.pin_path(folder)
    with Client(params) as client, ContentStore() as store:
        if source != AS_DESCRIBED:
            yield from _read_override(source, dataset, client, store, params)
        elif pin.exists():
            print_line(f"acquire: the photographs of {pin}")
            yield from web_photos.from_list(pin, dataset.licence, client, store, params)
        else:
            yield from _read_described(folder, dataset, client, store, params)


def _check_no_source(folder: Path, source: str) -> None:
    if source != AS_DESCRIBED:
        raise PipelineError(
            f"dataset.source={source} has no meaning for {folder}, which makes its own images: use "
            f"-S dataset.source={AS_DESCRIBED}, or -S dataset.name=images for your own photographs"
        )


def _read_override(
    source: str,
    dataset: dataset_toml.ExternalDataset,
    client: Client,
    store: ContentStore,
    params: AcquireParams,
) -> Iterator[RawImage | SkippedItem]:
    print_line(f"acquire: from {source}")
    suffix = PurePosixPath(source.partition("?")[0]).suffix.lower()
    if source.startswith(("http://", "https://")):
        # Without the checksums of dataset.toml: they are of another file.
        path = download(source, ExpectedFile(), client, store, params.max_gigabytes * 1e9)
    else:
        path = Path(source).expanduser()
    if suffix == ".csv":
        return web_photos.from_list(path, dataset.licence, client, store, params)
    return files.read_images(path, dataset, params)


def _read_described(
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
            path = folder / dataset.path
            return web_photos.from_list(path, dataset.licence, client, store, params)
        case dataset_toml.ArchiveDataset(url=str(url)):
            expected = ExpectedFile(dataset.size, dataset.sha256, dataset.md5)
            path = download(url, expected, client, store, params.max_gigabytes * 1e9)
            return files.read_images(path, dataset, params)
        case (
            dataset_toml.FolderDataset(path=str(path)) | dataset_toml.ArchiveDataset(path=str(path))
        ):
            return files.read_images(folder / path, dataset, params)
    raise PipelineError(
        f"{folder} does not name a source: set -S dataset.source=/absolute/path, a folder or "
        "archive with one folder per class, or a CSV file with the columns url,label"
    )
