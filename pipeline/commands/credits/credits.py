"""The attribution that Creative Commons licences ask for: title, author, source and licence."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.core import shards
from pipeline.core.terminal import plain
from pipeline.stages.acquire.licences import licence_url

FACTS = ["owner", "licence", "title", "page_url", "url"]
# A licence wants changes told; which were changed depends on filter.store_side.
CHANGES = "Large ones were scaled down, and all but plain JPEGs and PNGs stored anew."


def lines(raw: Path) -> Iterator[str]:
    """One line for each photograph whose owner or page is known, then the others counted."""
    together: Counter[str | None] = Counter()
    for row in shards.columns(raw, FACTS).to_pylist():
        if row["owner"] or row["page_url"]:
            yield _credit(row)
        else:
            together[row["licence"]] += 1
    for licence, number in together.items():
        yield plain(f"{number} images {_licensed(licence)}")
    yield CHANGES


def _credit(row: dict[str, Any]) -> str:
    title = f'"{row["title"]}"' if row["title"] else "Untitled"
    owner = row["owner"] or "an unknown owner"
    return plain(
        f"{title} by {owner}, {row['page_url'] or row['url']}, {_licensed(row['licence'])}"
    )


def _licensed(licence: str | None) -> str:
    if not licence:
        return "whose licence is not stated"
    text = licence_url(licence)
    return f"under {licence}" + (f" ({text})" if text else "")
