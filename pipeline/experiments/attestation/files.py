"""Files by their content."""

import stat
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.core.file_digests import sha256
from pipeline.experiments.attestation.statement import Annotations, Digest, File

ATTESTATION = "attestation"  # the folder beside the model's
STATEMENT, PUBLIC_KEY, MODEL_SIGNATURE = "statement.dsse.json", "signer.pem", "model.sig"


def describe(path: Path, name: str) -> File:
    """The digest and size of a file.

    Args:
        name: Its name in a statement.

    Raises:
        PipelineError: it is a device, a pipe or a folder, which have no content to compare.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise PipelineError(f"{path} is no regular file: replace it by one")
    return File(
        name=name, digest=Digest(sha256=sha256(path)), annotations=Annotations(bytes=status.st_size)
    )


def read(path: Path, max_bytes: int) -> bytes:
    """The bytes of a small file that a stranger sent.

    Raises:
        PipelineError: it is too large, or no regular file.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > max_bytes:
        raise PipelineError(
            f"{path} is no regular file of at most {max_bytes:,} bytes: fetch it again"
        )
    return path.read_bytes()


def walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files below a folder, by their paths in it, sorted; links to folders are files."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    yield from sorted((path.relative_to(folder).as_posix(), path) for path in paths)
