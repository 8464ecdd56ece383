"""A list of photographs that have addresses: what a pin holds, a search finds, people write."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.dataset_toml import SplitName
from pipeline.stages.acquire.raw_image import RawImage

Text = Annotated[str, Field(min_length=1)]


class Photo(BaseModel):
    """A row of such a list; only url and label are needed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Text | None = None
    """Its name at its source; where there is none, the last part of the address."""
    url: Text
    label: Text
    split: SplitName | None = None
    page: Text | None = None
    """Where people see it, with its licence."""
    title: Text | None = None
    owner: Text | None = None
    group: Text | None = None
    """What must not straddle splits: the owner's own id, where two owners may share a name."""
    licence: Text | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None

    @property
    def name(self) -> str:
        """As the raw shards and the reports call it."""
        try:
            last = PurePosixPath(urlsplit(self.url).path).name
        except ValueError:  # brackets that are no address
            last = ""
        return f"{self.label}/{self.id or last or 'unnamed'}"

    def image(self, data: bytes, sha256: str, licence: str | None = None) -> RawImage:
        """As a raw image; `licence` is that of the whole set, where the photo states none."""
        return RawImage(
            name=self.name,
            label=self.label,
            data=data,
            split=self.split,
            group=self.group,
            owner=self.owner,
            title=self.title,
            licence=self.licence or licence,
            url=self.url,
            page_url=self.page,
            sha256=sha256,
        )


COLUMNS = tuple(Photo.model_fields)


def read_photos(path: Path) -> Iterator[Photo]:
    """The photographs of a CSV file, one at a time, however many there are.

    Raises:
        PipelineError: naming the first line that is wrong, and how.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            _check_columns(path, rows.fieldnames or [])
            for row in rows:
                yield _photo(path, rows.line_num, row)
    except FileNotFoundError as error:
        raise PipelineError(f"{path} does not exist") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is no CSV file in UTF-8 ({error})") from error


def count_photos(path: Path) -> int:
    """How many photographs the file lists, each checked."""
    total = sum(1 for _ in read_photos(path))
    if not total:
        raise PipelineError(f"{path} lists no photographs")
    return total


def _check_columns(path: Path, given: Sequence[str]) -> None:
    wrong = [
        *(f"does not know the column {name!r}" for name in sorted(set(given) - set(COLUMNS))),
        *(f"lacks {name!r}" for name in sorted({"url", "label"} - set(given))),
        *(f"has the column {name!r} twice" for name in COLUMNS if given.count(name) > 1),
    ]
    if wrong:
        raise PipelineError(f"{path} {wrong[0]}: its first line names some of {', '.join(COLUMNS)}")


def _photo(path: Path, line: int, row: Mapping[str | None, str]) -> Photo:
    if None in row:  # where csv puts what is beyond the columns
        raise PipelineError(f"{path}, line {line}: the row has more cells than the first line")
    try:
        return Photo.model_validate({key: cell for key, cell in row.items() if cell})
    except ValidationError as error:
        first = error.errors()[0]
        said = " is missing" if first["type"] == "missing" else f": {first['msg']}"
        raise PipelineError(f"{path}, line {line}: {first['loc'][0]}{said}") from error
