"""Attribution as Creative Commons licences require it: title, author, source and licence."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from pipeline.core import columns, shards
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.terminal import printable
from pipeline.datasets.licences import licence_url

RAW_COLUMNS = ["owner", "licence", "title", "page_url", "url"]
# The licences require a note of changes. Which images were scaled depends on filter.store_side.
CHANGES = "Large ones were scaled down, and all but plain JPEGs and PNGs were converted."


@dataclass(frozen=True)
class Credit:
    """Who made a photograph, where it is from, and on what terms it may be used."""

    title: str | None
    owner: str | None
    licence: str | None
    source: str | None
    """An address of its page or of itself, as the source of the data set has it."""

    @classmethod
    def of(cls, row: dict[str, str | None]) -> Self:
        """The credit in a row of a raw shard."""
        return cls(row["title"], row["owner"], row["licence"], row["page_url"] or row["url"])

    @property
    def link(self) -> str | None:
        """The source if a page may link to it: others could be scripts, or have a password."""
        try:
            parts = urlsplit(self.source or "")
        except ValueError:
            return None
        is_public = parts.scheme in {"http", "https"} and parts.username is None
        return self.source if is_public else None

    @property
    def licence_url(self) -> str | None:
        """Of the licence's text."""
        return licence_url(self.licence) if self.licence else None

    def __str__(self) -> str:
        title = f'"{self.title}"' if self.title else "Untitled"
        owner = self.owner or "an unknown owner"
        return f"{title} by {owner}, {self.source}, {self.licence_phrase()}"

    def licence_phrase(self) -> str:
        """Under which licence it is, with the address of its text."""
        if not self.licence:
            return "without a stated licence"
        return f"under {self.licence}" + (f" ({self.licence_url})" if self.licence_url else "")


def credit_lines(raw: Path) -> Iterator[str]:
    """Yield one line per photograph with an owner or a page, then the number of the others."""
    others: Counter[Credit] = Counter()
    for row in shards.columns(raw, RAW_COLUMNS).to_pylist():
        credit = Credit.of(row)
        if row["owner"] or row["page_url"]:
            yield printable(str(credit))
        else:
            others[Credit(None, None, credit.licence, None)] += 1
    for credit, number in others.items():
        yield printable(f"{plural(number, 'image')} {credit.licence_phrase()}")
    yield CHANGES


def read_credits(raw: Path, ids: pa.StringArray) -> list[Credit]:
    """The credits of some images.

    Raises:
        PipelineError: `raw` lacks one.
    """
    table = shards.columns(raw, ["id", *RAW_COLUMNS])
    places = columns.positions(ids, table.column("id"))
    if len(missing := np.flatnonzero(places < 0)):
        raise PipelineError(
            f"{raw} lacks the image {ids[int(missing[0])].as_py()!r}, which data/split.csv lists: "
            "run `dvc repro`"
        )
    return [Credit.of(row) for row in table.take(shards.array(places)).to_pylist()]
