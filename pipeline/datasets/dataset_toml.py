"""The schema of datasets/<name>/dataset.toml, one model per kind of data set."""

import difflib
import tomllib
from collections.abc import Collection, Mapping, Sequence
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
from pipeline.datasets.toml_values import (
    ClassName,
    FlickrSize,
    LicenceName,
    SplitName,
    check_distinct,
    check_encoding,
    check_keys,
    check_no_url,
    check_pattern,
    normalise_splits,
)


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
        AfterValidator(check_distinct),
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

    splits: Annotated[dict[str, SplitName], AfterValidator(normalise_splits)] = {
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
    pattern: Annotated[str, AfterValidator(check_pattern)] | None = None
    """Where the label stands in the path of each file, such as "{label}.#"; see PathPattern."""
    table: str | None = None
    """The table with the labels, a path or pattern in the source; by default, any that has them."""
    label_column: str | None = None
    """The column of the table with the labels; by default, one of a common name."""
    file_column: str | None = None
    """The column of the table with the names of the files; by default, the one that finds most."""
    encoding: Annotated[str, AfterValidator(check_encoding)] | None = None
    """Of CSV, TSV and JSON lines, such as "windows-1252"; by default UTF-8, or UTF-16 with its mark
    at the start."""
    labels: Annotated[dict[ClassName, ClassName], BeforeValidator(check_keys)] = {}
    """Name of a class in the source -> class; the others stay as they are."""

    @property
    def own_splits(self) -> dict[str, SplitName]:
        """`splits`, if dataset.toml has them; else nothing."""
        return self.splits if "splits" in self.model_fields_set else {}

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        others = set(self.labels.values()) - self.class_names
        if self.class_names and others:
            raise ValueError(f"labels: {min(others)!r} is none of the classes")
        return self


class _Files(_ClassFolders, _ListedClasses):
    """Files on disk or in archives."""

    ignore_splits: bool = False
    """Whether the splits of the source do not count, so that stage split assigns all images."""


class FolderDataset(_Files):
    """Class folders on disk."""

    kind: Literal["folder"]
    path: Annotated[str, AfterValidator(check_no_url)] | None = None
    """Relative to the data set's folder, or an address such as s3://bucket/photos; without it,
    `dataset.source` is required."""


class ArchiveDataset(_Files):
    """Class folders in a zip or tar, at a path or a URL."""

    kind: Literal["archive"]
    path: Annotated[str, AfterValidator(check_no_url)] | None = None
    """Relative to the data set's folder, or an address such as s3://bucket/photos.zip; a pattern
    such as parts/*.zip names several."""
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
    """Relative to the data set's folder, a URL, or an address such as s3://bucket/urls.csv."""


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
        if "tag_mode" in self.model_fields_set and not self.tags:
            raise ValueError(f"tag_mode = {self.tag_mode!r} has no effect without tags")
        return self


class FlickrDataset(_ClassFolders):
    """A search of Flickr; `pipeline pin` saves its results as a list."""

    kind: Literal["flickr"]
    classes: Annotated[
        dict[ClassName, SearchTerms], Field(min_length=1), BeforeValidator(check_keys)
    ]
    """Label -> search. A photograph that matches two searches is used for neither."""
    wanted: Annotated[dict[SplitName, Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """Split -> photographs per class. All photographs of one owner go to one split."""
    seed: Annotated[int, Field(ge=0)]
    """For assigning owners to splits."""
    licences: Annotated[tuple[LicenceName, ...], Field(strict=False)] = ()
    """By name; empty: any."""
    sizes: Annotated[tuple[FlickrSize, ...], Field(strict=False, min_length=1)] = ("c",)
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

    @model_validator(mode="after")
    def _check_dates(self) -> Self:
        after, before = self.uploaded_after, self.uploaded_before
        if after and before and after >= before:
            raise ValueError(f"no date is after {after} and before {before}")
        return self


TABLE_KEYS = ("table", "label_column", "file_column", "encoding")
LABEL_KEYS = ("pattern", *TABLE_KEYS)
"""Keys that say where the labels are."""
ExternalDataset = FolderDataset | ArchiveDataset | UrlsDataset | FlickrDataset
Dataset = SampleDataset | DigitsDataset | ExternalDataset
MODELS: Mapping[str, type[BaseModel]] = {
    "sample": SampleDataset,
    "digits": DigitsDataset,
    "folder": FolderDataset,
    "archive": ArchiveDataset,
    "urls": UrlsDataset,
    "flickr": FlickrDataset,
}
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
        if first["type"] == "extra_forbidden":
            message = _unknown_key_message(str(first["loc"][-1]), first["loc"])
        raise PipelineError(f"{path}: {key + ': ' if key else ''}{message}") from error


def check_unused(dataset: ExternalDataset, keys: Collection[str], where: object, why: str) -> None:
    """Refuse keys about labels that have no effect on a source.

    Args:
        where: The source, for messages.
        why: Why they have none.

    Raises:
        PipelineError: dataset.toml has one of the keys.
    """
    if unused := [key for key in keys if getattr(dataset, key) is not None]:
        value = getattr(dataset, unused[0])
        raise PipelineError(
            f"{where}: {unused[0]} = {value!r} has no effect, because {why}: leave it out"
        )


def pin_path(folder: Path) -> Path:
    """Return the path of photos.csv, the list that `pipeline pin` writes."""
    return folder / "photos.csv"


def copy_path(folder: Path) -> Path:
    """Return the path of photos.dvc, DVC's record of the copy that `pipeline new` takes."""
    return folder / "photos.dvc"


def _unknown_key_message(key: str, location: Sequence[str | int]) -> str:
    """Say that a kind of data set has no such key, with the nearest of those that it has."""
    model = MODELS[str(location[0])] if len(location) == 2 else SearchTerms
    close = difflib.get_close_matches(key, model.model_fields, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"no such key: {hint}there are {', '.join(sorted(model.model_fields))}"


def _missing_message(folder: Path) -> str:
    names = sorted(path.parent.name for path in folder.parent.glob("*/dataset.toml"))
    close = difflib.get_close_matches(folder.name, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return (
        f"{folder}/dataset.toml is missing (there are: {', '.join(names)}{hint}): create it and "
        "commit it, because temporary and queued runs see only files that git tracks"
    )
