"""Choose the source of a data set: dataset.toml, its pin, or `dataset.source`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.core.addresses import is_address, is_remote, is_url
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import print_line, without_secrets
from pipeline.datasets import dataset_toml
from pipeline.datasets.dataset_toml import ExternalDataset
from pipeline.datasets.source_path import check_no_source, no_source_error
from pipeline.params import AS_DESCRIBED, AcquireParams
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.deviation import describe_deviation, expected_file
from pipeline.stages.acquire.layouts.file_names import TABLE_SUFFIXES
from pipeline.stages.acquire.layouts.url_table import has_urls, read_url_table
from pipeline.stages.acquire.photo_list import Photo, read_photos
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem
from pipeline.stages.acquire.sources import contents, digits, sample, web_photos
from pipeline.stages.acquire.sources.archives import find_archives
from pipeline.stages.acquire.sources.object_storage import mirror
from pipeline.stages.acquire.sources.remote_tables import name_table
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
        max_bytes = self.params.max_gigabytes * 1e9
        return name_table(download(url, expected, self.client, self.store, max_bytes), url)

    def locate(self, path: str) -> Path:
        """Where `path` of dataset.toml is; what is elsewhere is fetched first."""
        if is_url(path):
            return self.download(path, ExpectedFile())
        if is_address(path):
            return name_table(mirror(path, self.params.max_gigabytes * 1e9), path)
        return self.folder / path

    def read_list(self, path: Path, licence: str | None) -> Iterator[RawImage | SkippedItem]:
        read = partial(read_url_table, dataset=self.dataset)
        return self._read_photos(path, licence, self.names, read)

    def read_pin(self, path: Path, licence: str | None) -> Iterator[RawImage | SkippedItem]:
        """By the rules of `pipeline pin`, whatever dataset.toml says of the table it came from."""
        return self._read_photos(path, licence, self.names.of_pin(), read_photos)

    def _read_photos(
        self,
        path: Path,
        licence: str | None,
        names: ClassNames,
        read: Callable[[Path], Iterator[Photo]],
    ) -> Iterator[RawImage | SkippedItem]:
        return web_photos.from_list(
            path, licence, self.client, self.store, self.params, names, read
        )

    def read_files(self, path: Path, licence: str | None) -> Iterator[RawImage | SkippedItem]:
        dataset = self.dataset.model_copy(update={"licence": licence})
        return contents.read_images(path, dataset, self.params, self.names)


@contextmanager
def open_source(folder: Path, source: str, params: AcquireParams) -> Iterator[Acquisition]:
    """Yield the images of the data set described in `folder`, to be read within the block.

    Args:
        source: `dataset.source`: a folder, an archive, a table, or the URL of one of the two
            last, which overrides dataset.toml; or `datasets` for what dataset.toml describes.
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
    print_line(f"acquire: from {without_secrets(source)}")
    if is_url(source):
        # Without the checksums of dataset.toml: they are of another file.
        path = reader.download(source, ExpectedFile())
    else:
        path = Path(source).expanduser()
        warn_of_unseen_changes(path, path)
    deviation = describe_deviation(source, path, reader.folder, reader.dataset)
    # The licence in dataset.toml is that of other images.
    licence = None if deviation else reader.dataset.licence
    is_list = _is_url_list(path, reader.dataset.encoding)
    read = reader.read_list if is_list else reader.read_files
    return Acquisition(read(path, licence), deviation)


def _is_url_list(path: Path, encoding: str | None) -> bool:
    """Whether a source is a table of URLs, and not one beside its images."""
    suffix = path.suffix.lower()
    if suffix == ".csv" and not path.is_file():
        return True
    return suffix in TABLE_SUFFIXES and path.is_file() and has_urls(path, encoding)


def _described(reader: _Reader) -> Acquisition:
    folder, dataset = reader.folder, reader.dataset
    licence = dataset.licence
    pin = dataset_toml.pin_path(folder)
    if pin.exists():
        print_line(f"acquire: the photographs of {pin}")
        return Acquisition(reader.read_pin(pin, licence))
    path = getattr(dataset, "path", None)
    if path and not is_remote(path):
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
            return Acquisition(reader.read_list(reader.locate(dataset.path), licence))
        case dataset_toml.ArchiveDataset(url=str(url)):
            path = reader.download(url, expected_file(dataset))
            return Acquisition(reader.read_files(path, licence))
        case dataset_toml.ArchiveDataset(path=str(path)):
            located = reader.locate(path)
            _check_pinned(located, dataset)
            return Acquisition(reader.read_files(located, licence))
        case dataset_toml.FolderDataset(path=str(path)):
            return Acquisition(reader.read_files(reader.locate(path), licence))
    raise no_source_error(folder)


def _check_pulled(folder: Path, path: Path) -> None:
    """Refuse a copy that is in DVC's care, but not here."""
    if not any(archive.exists() for archive in find_archives(path)):
        raise PipelineError(
            f"the photographs of {folder} are not here: fetch them with `dvc pull "
            f"{dataset_toml.copy_path(folder)}`, after whoever made it has run `dvc push`"
        )


def _check_pinned(path: Path, dataset: dataset_toml.ArchiveDataset) -> None:
    """Refuse an archive beside dataset.toml with another digest or size than that pins."""
    if path.is_dir() and (dataset.size or dataset.sha256 or dataset.md5):
        raise PipelineError(
            f"{path} is a folder, but size, sha256 and md5 in dataset.toml are of an archive: "
            "leave them out, or name the archive"
        )
    difference = expected_file(dataset).find_difference(path) if path.is_file() else None
    if difference:
        raise PipelineError(f"{path} {difference}: it is damaged, or was replaced")
