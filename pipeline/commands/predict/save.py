"""How `predict` leaves pictures in a folder: by their own names, and without losing one."""

import hashlib
import os
from pathlib import Path, PurePosixPath

from pipeline.core import atomic
from pipeline.core.terminal import safe_file_name

MAX_NAME_BYTES = (
    180  # bytes of a name: systems take 255, and a name has company while it is written
)
DIGEST = 8  # characters of it in a name, if that is enough to tell it from others


def keep(folder: Path, name: str, content: bytes, suffix: str | None = None) -> Path:
    """Write `content` into `folder` under the last part of `name`; return where it is.

    Another picture of that name stays: this one then has a part of its digest in its name. The
    same picture is not written twice.

    Args:
        suffix: As in `.jpg`, instead of that of `name`.
    """
    last = PurePosixPath(name)
    stem = safe_file_name(last.stem).encode()[:MAX_NAME_BYTES].decode(errors="ignore") or "image"
    end = safe_file_name(last.suffix[1:])[:DIGEST]
    ending = suffix or (f".{end}" if end else "")
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{stem}{ending}"
    for length in range(DIGEST, len(digest) + 1):
        if not os.path.lexists(path):
            with atomic.replacing(path) as staged:
                staged.write_bytes(content)
            return path
        if path.is_file() and path.read_bytes() == content:
            return path
        path = folder / f"{stem}-{digest[:length]}{ending}"
    raise AssertionError("pictures of one sha256 are one")
