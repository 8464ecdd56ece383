"""Rows of clean shards."""

from typing import Any

from pipeline.core import shards


def clean_row(key: str, data: bytes = b"", **facts: Any) -> dict[str, Any]:
    """A row with the id `key` and the stored bytes `data`."""
    usual = {"label": "x", "name": key, "width": 1, "height": 1, "phash": 0}
    return {"id": key, shards.STORED: shards.digest(data), "bytes": data} | usual | facts
