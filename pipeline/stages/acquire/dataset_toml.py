"""The schema of datasets/<name>/dataset.toml, one model per kind of data set."""

import difflib
import tomllib
from collections.abc import Collection
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.class_names import to_nfc
from pipeline.stages.acquire.layouts.path_pattern import PathPattern
from pipeline.stages.acquire.licences import LICENCES

SplitName = Literal["train", "val", "test"]


# Flickr's sizes by letter -> longer side in pixels. For the original, "o", it is a guess.
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


def _one_of(allowed: Collection[str]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
        return value

    return AfterValidator(check)


def _check_distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("a class is listed twice")
    return names


def _check_keys(values: object) -> object:
    if isinstance(values, dict) and len(set(map(to_nfc, values))) < len(values):
        raise ValueError("a class is listed twice, in two Unicode forms of its name")
    return values


def _check_pattern(pattern: str) -> str:
    PathPattern(pattern)
    return pattern


ClassName = Annotated[str, Field(min_length=1), AfterValidator(to_nfc)]
LicenceName = Annotated[str, _one_of(LICENCES)]
Size = Annotated[str, _one_of(FLICKR_SIDES)]


class _BaseDataset(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    description: str
    licence: str | None = None
    """The licence of all images, if they share one."""

    @property
    def class_names(self) -> frozenset[str]:
        """The classes that every source of the data set must have; empty: any."""
        return frozenset()


class _ListedClasses(_BaseDataset):
    classes: Annotated[
        tuple[ClassName, ...],
        Field(strict=False, min_length=1),
        AfterValidator(_check_distinct),
    ] = ()
    """All classes; a source that has others is refused."""

    @property
    def class_names(self) -> frozenset[str]:
        return frozenset(self.classes)


class SampleDataset(_ListedClasses):
    """Generated pictures; needs no download."""

    kind: Literal["sample"]
    images_per_class: Annotated[int, Field(ge=10, le=100_000)]
    seed: Annotated[int, Field(ge=0)]


class DigitsDataset(_ListedClasses):
    """scikit-learn's handwritten digits; needs no download."""

    kind: Literal["digits"]


class _ClassFolders(_BaseDataset):
    """A data set with its images elsewhere; `dataset.source` may override where."""

    splits: dict[str, SplitName] = {
        "train": "train",
        "training": "train",
        "val": "val",
        "valid": "val",
        "validation": "val",
        "dev": "val",
        "test": "test",
        "testing": "test",
        "eval": "test",
        "evaluation": "test",
    }
    """Folder above the class folders, or value in a table's column of splits -> split."""
    pattern: Annotated[str, AfterValidator(_check_pattern)] | None = None
    """Where the label stands in the path of each file, such as "{label}.#"; see PathPattern."""
    table: str | None = None
    """The table with the labels, a path or pattern in the source; by default, any that has them."""
    label_column: str | None = None
    """The column of the table with the labels; by default, one of a common name."""
    file_column: str | None = None
    """The column of the table with the names of the files; by default, the one that finds most."""
    labels: Annotated[dict[ClassName, ClassName], BeforeValidator(_check_keys)] = {}
    """Name of a class in the source -> class; the others stay as they are."""

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        others = set(self.labels.values()) - self.class_names
        if self.class_names and others:
            raise ValueError(f"labels: {min(others)!r} is none of the classes")
        return self


class FolderDataset(_ClassFolders, _ListedClasses):
    """Class folders on disk."""

    kind: Literal["folder"]
    path: str | None = None
    """Relative to the data set's folder; without it, `dataset.source` is required."""


class ArchiveDataset(_ClassFolders, _ListedClasses):
    """Class folders in a zip or tar, at a path or a URL."""

    kind: Literal["archive"]
    path: str | None = None
    """Relative to the data set's folder; a pattern such as parts/*.zip names several."""
    url: str | None = None
    size: Annotated[int, Field(gt=0)] | None = None
    """Of the archive, in bytes."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    """Of the archive. Without one, the sha256 of the first download is recorded and compared."""
    records: Literal["cifar10"] | None = None
    """Format of binary records that are converted to PNGs; None: the members are image files."""

    @model_validator(mode="after")
    def _check_one_location(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise ValueError("an archive has either a path or a url")
        if (self.size or self.sha256 or self.md5) and set(self.path or "") & set("*?["):
            raise ValueError("size, sha256 and md5 are of one archive, but path is a pattern")
        return self


class UrlsDataset(_ClassFolders, _ListedClasses):
    """Photographs listed by URL in a table; `photo_list.Photo` defines the columns of urls.csv."""

    kind: Literal["urls"]
    path: str = "urls.csv"
    """Relative to the data set's folder."""


class SearchTerms(BaseModel):
    """The search for one class."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    text: str = ""
    """Words to find in titles, descriptions and tags."""
    tags: Annotated[tuple[str, ...], Field(strict=False)] = ()
    tag_mode: Literal["all", "any"] = "all"

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        if not self.text and not self.tags:
            raise ValueError("a class needs a text or tags to search for")
        return self


class FlickrDataset(_ClassFolders):
    """A search of Flickr; `pipeline pin` saves its results as a list."""

    kind: Literal["flickr"]
    classes: Annotated[
        dict[ClassName, SearchTerms], Field(min_length=1), BeforeValidator(_check_keys)
    ]
    """Label -> search. A photograph that matches two searches is used for neither."""
    wanted: Annotated[dict[SplitName, Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """Split -> photographs per class. All photographs of one owner go to one split."""
    seed: Annotated[int, Field(ge=0)]
    """For assigning owners to splits."""
    licences: Annotated[tuple[LicenceName, ...], Field(strict=False)] = ()
    """By name; empty: any."""
    sizes: Annotated[tuple[Size, ...], Field(strict=False, min_length=1)] = ("c",)
    """Flickr's size letters in order of preference; without any, the size nearest to the first."""
    uploaded_after: date | None = None
    uploaded_before: date | None = None

    @property
    def class_names(self) -> frozenset[str]:
        return frozenset(self.classes)

    @model_validator(mode="after")
    def _check_wanted(self) -> Self:
        if not sum(self.wanted.values()):
            raise ValueError("wanted is 0 for every split")
        return self


ExternalDataset = FolderDataset | ArchiveDataset | UrlsDataset | FlickrDataset
Dataset = SampleDataset | DigitsDataset | ExternalDataset
_ADAPTER: TypeAdapter[Dataset] = TypeAdapter(Annotated[Dataset, Field(discriminator="kind")])


def load(folder: Path) -> Dataset:
    """Read and validate the dataset.toml of a folder.

    Raises:
        PipelineError: it is missing, not TOML, or does not fit the schema.
    """
    path = folder / "dataset.toml"
    try:
        return _ADAPTER.validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise PipelineError(_missing_message(folder)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"][1:]))  # without the kind
        message = first["msg"].removeprefix("Value error, ")
        raise PipelineError(f"{path}: {key + ': ' if key else ''}{message}") from error


def pin_path(folder: Path) -> Path:
    """Return the path of photos.csv, the list that `pipeline pin` writes."""
    return folder / "photos.csv"


def copy_path(folder: Path) -> Path:
    """Return the path of photos.dvc, DVC's record of the copy that `pipeline new` takes."""
    return folder / "photos.dvc"


def _missing_message(folder: Path) -> str:
    names = sorted(path.parent.name for path in folder.parent.glob("*/dataset.toml"))
    close = difflib.get_close_matches(folder.name, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return (
        f"{folder}/dataset.toml is missing (there are: {', '.join(names)}{hint}): create it and "
        "`git add` it, because temporary and queued runs see only files tracked by git"
    )
