"""Attribution as Creative Commons licences require it: title, author, source and licence."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.core import shards
from pipeline.core.terminal import printable
from pipeline.stages.acquire.licences import licence_url

RAW_COLUMNS = ["owner", "licence", "title", "page_url", "url"]
# The licences require a note of changes. Which images were scaled depends on filter.store_side.
CHANGES = "Large ones were scaled down, and all but plain JPEGs and PNGs were converted."


def credit_lines(raw: Path) -> Iterator[str]:
    """Yield one line per photograph with an owner or a page, then the number of the others."""
    others: Counter[str | None] = Counter()
    for row in shards.columns(raw, RAW_COLUMNS).to_pylist():
        if row["owner"] or row["page_url"]:
            yield _credit(row)
        else:
            others[row["licence"]] += 1
    for licence, number in others.items():
        yield printable(f"{number} images {_licence_phrase(licence)}")
    yield CHANGES


def _credit(row: dict[str, Any]) -> str:
    title = f'"{row["title"]}"' if row["title"] else "Untitled"
    owner = row["owner"] or "an unknown owner"
    source = row["page_url"] or row["url"]
    return printable(f"{title} by {owner}, {source}, {_licence_phrase(row['licence'])}")


def _licence_phrase(licence: str | None) -> str:
    if not licence:
        return "without a stated licence"
    url = licence_url(licence)
    return f"under {licence}" + (f" ({url})" if url else "")
