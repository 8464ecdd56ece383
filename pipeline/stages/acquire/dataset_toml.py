"""datasets/<name>/dataset.toml: what a data set is and where its bytes are."""

import tomllib
from collections.abc import Collection
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.licences import LICENCES

SplitName = Literal["train", "val", "test"]


# Flickr's sizes by letter: the longer side in pixels. The original's is not known beforehand.
FLICKR_SIDES = {
    "sq": 75,
    "t": 100,
    "q": 150,
    "s": 240,
    "n": 320,
    "w": 400,
    "m": 500,
    "z": 640,
    "c": 800,
    "l": 1024,
    "h": 1600,
    "k": 2048,
    "o": 4096,
}


def _one_of(known: Collection[str]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"{value!r} is none of {', '.join(known)}")
        return value

    return AfterValidator(check)


LicenceName = Annotated[str, _one_of(LICENCES)]
Size = Annotated[str, _one_of(FLICKR_SIDES)]


class _Described(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    description: str
    licence: str | None = None
    """Under which all images of the set may be used, where one licence covers them."""


class SampleDataset(_Described):
    """Pictures rendered on the spot: runs anywhere."""

    kind: Literal["sample"]
    images_per_class: Annotated[int, Field(ge=10, le=100_000)]
    seed: Annotated[int, Field(ge=0)]


class DigitsDataset(_Described):
    """scikit-learn's handwritten digits: runs anywhere."""

    kind: Literal["digits"]


class _ClassFolders(_Described):
    """Images that are elsewhere. `dataset.source` may give a folder or archive instead."""

    splits: dict[str, SplitName] = {
        "train": "train",
        "training": "train",
        "val": "val",
        "valid": "val",
        "validation": "val",
        "test": "test",
        "testing": "test",
    }
    """Which folder of the source, above the class folders, is which split."""


class FolderDataset(_ClassFolders):
    """Class folders on disk."""

    kind: Literal["folder"]
    path: str | None = None
    """Relative to the data set's own folder; none where `dataset.source` must say."""


class ArchiveDataset(_ClassFolders):
    """Class folders in a zip or tar, at a path or a URL."""

    kind: Literal["archive"]
    path: str | None = None
    """Relative to the data set's own folder."""
    url: str | None = None
    size: Annotated[int, Field(gt=0)] | None = None
    """Bytes of what `url` gives."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    """Without a checksum, that of the first download is recorded, and held to from then on."""
    records: Literal["cifar10"] | None = None
    """Images in binary records instead of files: CIFAR-10's batches. They become PNGs."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise ValueError("an archive has either a path or a url")
        return self


class UrlsDataset(_ClassFolders):
    """Photographs that have addresses, listed in a CSV file (photos.Photo says its columns)."""

    kind: Literal["urls"]
    path: str = "urls.csv"
    """Relative to the data set's own folder."""


class SearchTerms(BaseModel):
    """What to search for one class."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    text: str = ""
    """Looked for in titles, descriptions and tags."""
    tags: Annotated[tuple[str, ...], Field(strict=False)] = ()
    tag_mode: Literal["all", "any"] = "all"

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.text and not self.tags:
            raise ValueError("a class needs a text or tags to search for")
        return self


class FlickrDataset(_ClassFolders):
    """A search of Flickr. What it found is fixed by `pipeline pin`."""

    kind: Literal["flickr"]
    classes: Annotated[dict[str, SearchTerms], Field(min_length=1)]
    """Searches by label. A photograph that answers two is used for neither."""
    wanted: Annotated[dict[SplitName, Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """Photographs of each class in each split. All those of one owner go to one split."""
    seed: Annotated[int, Field(ge=0)]
    """Deals owners to splits."""
    licences: Annotated[tuple[LicenceName, ...], Field(strict=False)] = ()
    """By name; none means any."""
    sizes: Annotated[tuple[Size, ...], Field(strict=False, min_length=1)] = ("c",)
    """Flickr's size letters in order of preference; then the nearest to the first is taken."""
    uploaded_after: date | None = None
    uploaded_before: date | None = None

    @model_validator(mode="after")
    def _some_wanted(self) -> Self:
        if not sum(self.wanted.values()):
            raise ValueError("wanted has no photographs at all")
        return self


ExternalDataset = FolderDataset | ArchiveDataset | UrlsDataset | FlickrDataset
Dataset = SampleDataset | DigitsDataset | ExternalDataset
_ADAPTER: TypeAdapter[Dataset] = TypeAdapter(Annotated[Dataset, Field(discriminator="kind")])


def load(folder: Path) -> Dataset:
    """Read and check a data set's description.

    Raises:
        PipelineError: there is none, or it says something it cannot.
    """
    path = folder / "dataset.toml"
    try:
        return _ADAPTER.validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise PipelineError(_missing(folder)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][1:])  # after the kind
        message = first["msg"].removeprefix("Value error, ")
        raise PipelineError(f"{path}: {key + ': ' if key else ''}{message}") from error


def pin_path(folder: Path) -> Path:
    """Where `pipeline pin` writes down which photographs the data set has."""
    return folder / "photos.csv"


def _missing(folder: Path) -> str:
    known = sorted(path.parent.name for path in folder.parent.glob("*/dataset.toml"))
    return (
        f"{folder}/dataset.toml is missing (known: {', '.join(known)}): create it, and "
        "`git add` it, since temporary and queued runs see only what git knows"
    )
