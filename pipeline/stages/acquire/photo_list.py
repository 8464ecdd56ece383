"""CSV lists of photographs with their URLs: photos.csv, written by `pipeline pin`, and urls.csv."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipeline.core import csv_cells
from pipeline.core.errors import PipelineError
from pipeline.core.unicode import to_nfc
from pipeline.datasets.toml_values import SplitName
from pipeline.stages.acquire.raw_image import RawImage

Text = Annotated[str, Field(min_length=1)]


class Photo(BaseModel):
    """A row of a list; only url and label are required."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Text | None = None
    """Its name at its source; without one, the last part of the URL is used."""
    url: Text
    label: Text
    split: SplitName | None = None
    page: Text | None = None
    """URL of the web page that shows it with its licence."""
    title: Text | None = None
    owner: Text | None = None
    group: Annotated[Text, AfterValidator(to_nfc)] | None = None
    """Photographs of one group go to one split: the owner's id, since names may repeat."""
    licence: Text | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None

    @property
    def name(self) -> str:
        """Its name in raw shards and reports."""
        try:
            last = PurePosixPath(urlsplit(self.url).path).name
        except ValueError:  # an invalid IPv6 host in brackets
            last = ""
        return f"{self.label}/{self.id or last or 'unnamed'}"

    def to_raw_image(self, data: bytes, sha256: str, licence: str | None = None) -> RawImage:
        """As a raw image; `licence` is that of the data set, for photos that state none."""
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
    """Yield the photographs of a CSV file one at a time, in constant memory.

    Raises:
        PipelineError: names the first invalid line and its error.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv_cells.DictReader(file, strict=True)
            _check_columns(path, rows.fieldnames or [])
            for row in rows:
                yield _parse_photo(path, rows.line_num, row)
    except FileNotFoundError as error:
        raise PipelineError(f"{path} does not exist") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not a CSV file in UTF-8 ({error})") from error


def count_labels(path: Path, photos: Iterable[Photo] | None = None) -> Counter[str]:
    """Check every row of the file and return the number of photographs by label.

    Args:
        photos: Its photographs; None: as `read_photos` reads them.

    Raises:
        PipelineError: there are none, or a line is invalid.
    """
    counts = Counter(photo.label for photo in photos or read_photos(path))
    if not counts:
        raise PipelineError(f"{path} lists no photographs")
    return counts


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    errors = [
        *(f"has an unknown column {name!r}" for name in sorted(set(columns) - set(COLUMNS))),
        *(f"lacks the column {name!r}" for name in sorted({"url", "label"} - set(columns))),
        *(f"has the column {name!r} twice" for name in COLUMNS if columns.count(name) > 1),
    ]
    if errors:
        raise PipelineError(
            f"{path} {errors[0]}: its first line may name {', '.join(COLUMNS)}; url and label are "
            "required"
        )


def _parse_photo(path: Path, line: int, row: Mapping[str | None, str]) -> Photo:
    if None in row:  # where csv puts surplus cells
        raise PipelineError(f"{path}, line {line}: the row has more cells than the first line")
    try:
        return Photo.model_validate({key: cell for key, cell in row.items() if cell})
    except ValidationError as error:
        first = error.errors()[0]
        problem = " is missing" if first["type"] == "missing" else f": {first['msg']}"
        raise PipelineError(f"{path}, line {line}: {first['loc'][0]}{problem}") from error
