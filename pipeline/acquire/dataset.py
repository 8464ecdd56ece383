"""datasets/<name>/dataset.toml: what a data set is and where its bytes are."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from pipeline.errors import PipelineError

SplitName = Literal["train", "val", "test"]


class _Described(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    description: str
    licence: str | None = None
    """Under which all images of the set may be used, where one licence covers them."""


class Sample(_Described):
    """Pictures rendered on the spot: runs anywhere."""

    kind: Literal["sample"]
    images_per_class: Annotated[int, Field(ge=10, le=100_000)]
    seed: Annotated[int, Field(ge=0)]


class Digits(_Described):
    """scikit-learn's handwritten digits: runs anywhere."""

    kind: Literal["digits"]


class _ClassFolders(_Described):
    splits: dict[str, SplitName] = {
        "train": "train", "training": "train",
        "val": "val", "valid": "val", "validation": "val",
        "test": "test", "testing": "test",
    }  # fmt: skip
    """Which folder of the source, above the class folders, is which split."""


class Folder(_ClassFolders):
    """Class folders on disk."""

    kind: Literal["folder"]
    path: str | None = None
    """Relative to the data set's own folder; none where `dataset.source` must say."""


class Archive(_ClassFolders):
    """Class folders in a zip or tar, at a path or a URL."""

    kind: Literal["archive"]
    path: str | None = None
    """Relative to the data set's own folder."""
    url: str | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise ValueError("an archive has either a path or a url")
        return self


Dataset = Sample | Digits | Folder | Archive
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


def _missing(folder: Path) -> str:
    known = sorted(path.parent.name for path in folder.parent.glob("*/dataset.toml"))
    return (
        f"{folder}/dataset.toml is missing (known: {', '.join(known)}): create it, and "
        "`git add` it, since temporary and queued runs see only what git knows"
    )
