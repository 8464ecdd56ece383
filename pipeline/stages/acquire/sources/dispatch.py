"""Choose the source of a data set: dataset.toml, its pin, or `dataset.source`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from pipeline.core.errors import PipelineError
from pipeline.core.terminal import print_line
from pipeline.params import AS_DESCRIBED, AcquireParams
from pipeline.stages.acquire import dataset_toml
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.dataset_toml import ExternalDataset
from pipeline.stages.acquire.deviation import describe_deviation, expected_file
from pipeline.stages.acquire.layouts.file_names import TABLE_SUFFIXES
from pipeline.stages.acquire.layouts.url_table import has_urls, read_url_table
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem
from pipeline.stages.acquire.sources import contents, digits, sample, web_photos
from pipeline.stages.acquire.sources.archives import find_archives
from pipeline.stages.acquire.sources.source_path import check_no_source
from pipeline.stages.acquire.unseen_changes import warn_of_unseen_changes
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import ContentStore
from pipeline.stages.acquire.web.download import ExpectedFile, download

MIN_CLASSES = 2  # of a classifier


@dataclass(frozen=True)
class Acquisition:
    """The images of a source."""

    items: Iterator[RawImage | SkippedItem]
    """In the order of the source, read one at a time; an error of the source comes from here."""
    deviation: str = ""
    """How the source differs from the one in dataset.toml, a clause; "" if it does not."""


@dataclass(frozen=True)
class _Reader:
    """What every source of images elsewhere needs."""

    folder: Path
    dataset: ExternalDataset
    names: ClassNames
    client: Client
    store: ContentStore
    params: AcquireParams

    def download(self, url: str, expected: ExpectedFile) -> Path:
        return download(url, expected, self.client, self.store, self.params.max_gigabytes * 1e9)

    def read_list(self, path: Path, licence: str | None) -> Iterator[RawImage | SkippedItem]:
        read = partial(read_url_table, dataset=self.dataset)
        return web_photos.from_list(
            path, licence, self.client, self.store, self.params, self.names, read
        )

    def read_files(self, path: Path, licence: str | None) -> Iterator[RawImage | SkippedItem]:
        dataset = self.dataset.model_copy(update={"licence": licence})
        return contents.read_images(path, dataset, self.params, self.names)


@contextmanager
def open_source(folder: Path, source: str, params: AcquireParams) -> Iterator[Acquisition]:
    """Yield the images of the data set described in `folder`, to be read within the block.

    Args:
        source: `dataset.source`: a folder, an archive or its URL, or a CSV list, which overrides
            dataset.toml; or `datasets` for what dataset.toml describes.
    """
    dataset = dataset_toml.load(folder)
    toml = str(folder / "dataset.toml")
    if isinstance(dataset, dataset_toml.SampleDataset | dataset_toml.DigitsDataset):
        check_no_source(folder, source)
        names = ClassNames(toml, classes=dataset.class_names)
        yield Acquisition(names.check_images(_generate(dataset), folder))
        return
    names = ClassNames(toml, source, dataset.labels, dataset.class_names, MIN_CLASSES)
    with Client(params) as client, ContentStore() as store:
        reader = _Reader(folder, dataset, names, client, store, params)
        acquired = _described(reader) if source == AS_DESCRIBED else _overridden(reader, source)
        where = folder if source == AS_DESCRIBED else source
        yield Acquisition(names.check_images(acquired.items, where), acquired.deviation)


def _generate(
    dataset: dataset_toml.SampleDataset | dataset_toml.DigitsDataset,
) -> Iterator[RawImage]:
    match dataset:
        case dataset_toml.SampleDataset():
            return sample.draw_images(dataset)
        case dataset_toml.DigitsDataset():
            return digits.read_images(dataset)


def _overridden(reader: _Reader, source: str) -> Acquisition:
    print_line(f"acquire: from {source}")
    if source.startswith(("http://", "https://")):
        # Without the checksums of dataset.toml: they are of another file.
        path = reader.download(source, ExpectedFile())
    else:
        path = Path(source).expanduser()
        warn_of_unseen_changes(path, path)
    deviation = describe_deviation(source, path, reader.folder, reader.dataset)
    # The licence in dataset.toml is that of other images.
    licence = None if deviation else reader.dataset.licence
    read = reader.read_list if _is_url_list(source, path) else reader.read_files
    return Acquisition(read(path, licence), deviation)


def _is_url_list(source: str, path: Path) -> bool:
    """Whether a source is a table of URLs, and not one beside its images."""
    suffix = PurePosixPath(source.partition("?")[0]).suffix.lower()
    if suffix == ".csv" and not path.is_file():
        return True
    return suffix in TABLE_SUFFIXES and path.is_file() and has_urls(path)


def _described(reader: _Reader) -> Acquisition:
    folder, dataset = reader.folder, reader.dataset
    licence = dataset.licence
    pin = dataset_toml.pin_path(folder)
    if pin.exists():
        print_line(f"acquire: the photographs of {pin}")
        return Acquisition(reader.read_list(pin, licence))
    if path := getattr(dataset, "path", None):
        if dataset_toml.copy_path(folder).exists():
            _check_pulled(folder, folder / path)
        else:
            warn_of_unseen_changes(folder / path, folder, folder.parent)
    match dataset:
        case dataset_toml.FlickrDataset():
            photos = web_photos.from_search(
                dataset, folder, reader.client, reader.store, reader.params
            )
            return Acquisition(photos)
        case dataset_toml.UrlsDataset():
            return Acquisition(reader.read_list(folder / dataset.path, licence))
        case dataset_toml.ArchiveDataset(url=str(url)):
            path = reader.download(url, expected_file(dataset))
            return Acquisition(reader.read_files(path, licence))
        case dataset_toml.ArchiveDataset(path=str(path)):
            _check_pinned(folder / path, dataset)
            return Acquisition(reader.read_files(folder / path, licence))
        case dataset_toml.FolderDataset(path=str(path)):
            return Acquisition(reader.read_files(folder / path, licence))
    raise PipelineError(
        f"{folder} does not name a source: set -S dataset.source=/absolute/path, a folder or "
        "archive with one folder per class, or a table with the label of each image or URL"
    )


def _check_pulled(folder: Path, path: Path) -> None:
    """Refuse a copy that is in DVC's care, but not here."""
    if not any(archive.exists() for archive in find_archives(path)):
        raise PipelineError(
            f"the photographs of {folder} are not here: fetch them with `dvc pull "
            f"{dataset_toml.copy_path(folder)}`, after whoever made it has run `dvc push`"
        )


def _check_pinned(path: Path, dataset: dataset_toml.ArchiveDataset) -> None:
    """Refuse an archive beside dataset.toml with another digest or size than that pins."""
    difference = expected_file(dataset).find_difference(path) if path.is_file() else None
    if difference:
        raise PipelineError(f"{path} {difference}: it is damaged, or was replaced")
