"""How `predict` leaves pictures in a folder: by their own names, and without losing one."""

import hashlib
from pathlib import Path, PurePosixPath

from pipeline import atomic
from pipeline.printable import file_name

LONGEST = 100  # characters of a name


def keep(folder: Path, name: str, content: bytes, suffix: str | None = None) -> Path:
    """Write `content` into `folder` under the last part of `name`; return where it is.

    Another picture of that name stays: this one then has a part of its digest in its name. The
    same picture is not written twice.

    Args:
        suffix: As in `.jpg`, instead of that of `name`.
    """
    last = PurePosixPath(name)
    stem = file_name(last.stem)[:LONGEST] or "image"
    end = file_name(last.suffix[1:])[:LONGEST]
    ending = suffix or (f".{end}" if end else "")
    path = folder / f"{stem}{ending}"
    if path.exists() and path.read_bytes() != content:
        path = folder / f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}{ending}"
    if not path.exists():
        with atomic.replacing(path) as staged:
            staged.write_bytes(content)
    return path
