"""Digests of files, in hex."""

import hashlib
import re
from pathlib import Path

_MD5 = re.compile("[0-9a-f]{32}")


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(path: Path) -> str:
    """The md5 of a file's bytes, by which DVC names it; it protects from no attack."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def is_md5(text: str) -> bool:
    """Whether a text is an md5."""
    return _MD5.fullmatch(text) is not None
