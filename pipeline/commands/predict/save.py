"""Save pictures in a folder under their own names; never overwrite another picture."""

import hashlib
import os
from pathlib import Path, PurePosixPath

from pipeline.core import atomic
from pipeline.core.terminal import safe_file_name

MAX_NAME_BYTES = 180  # systems allow 255; a temporary name while writing is longer
DIGEST_LENGTH = 8  # digits of the digest in a name; more if two pictures share them


def save_picture(folder: Path, name: str, content: bytes, suffix: str | None = None) -> Path:
    """Write `content` into `folder` under the last part of `name`; return the path.

    If another picture has that name, a part of the digest is appended to it. The same picture is
    not written twice.

    Args:
        suffix: Replaces that of `name`, for example `.jpg`.
    """
    base = PurePosixPath(name)
    stem = safe_file_name(base.stem).encode()[:MAX_NAME_BYTES].decode(errors="ignore") or "image"
    extension = safe_file_name(base.suffix[1:])[:DIGEST_LENGTH]
    ending = suffix or (f".{extension}" if extension else "")
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{stem}{ending}"
    for length in range(DIGEST_LENGTH, len(digest) + 1):
        if not os.path.lexists(path):
            with atomic.replacing(path) as staged:
                staged.write_bytes(content)
            return path
        if path.is_file() and path.read_bytes() == content:
            return path
        path = folder / f"{stem}-{digest[:length]}{ending}"
    raise AssertionError("two pictures have the same sha256")
