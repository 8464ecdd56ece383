"""SourceFile: an entry of the listing of a folder or archive."""

import os
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class SourceFile:
    name: str
    """Relative to the folder or archive, with forward slashes."""
    size: int
    """In bytes, unpacked."""
    read: Callable[[], bytes]


def to_text(path: os.PathLike[str] | str) -> str:
    """Return a path with forward slashes and U+FFFD in the place of bytes that are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace").replace(os.sep, "/")
