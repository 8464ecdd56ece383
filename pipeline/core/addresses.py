"""Addresses of files elsewhere that fsspec knows, such as s3://bucket/prefix."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.core.errors import OF_MACHINE, PipelineError
from pipeline.core.terminal import one_line, without_password

EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs"}  # of this package, by kind of address
# Object storage alone: fsspec would also read files of this machine, and URLs without the checks of
# our own client, also behind others (simplecache::http://...).
KINDS = (*EXTRAS, "az", "abfs", "abfss")
URLS = ("http://", "https://")  # for our own client, which checks what it asks

OF_THIS_MACHINE = OF_MACHINE | {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def is_url(text: str) -> bool:
    """Whether a text is a URL for our own client."""
    return text.lower().startswith(URLS)


def is_address(text: str) -> bool:
    """Whether a text is an address for fsspec, and neither a path nor a URL."""
    return "://" in text and not is_url(text)


def is_remote(text: str) -> bool:
    """Whether a text is a URL or an address, and no path."""
    return is_url(text) or is_address(text)


def open_address(address: str, setting: str) -> tuple[Any, str]:
    """The file system of an address, and the address's path in it.

    Args:
        setting: What names the address, such as "PIPELINE_CACHE".

    Raises:
        PipelineError: the package for this kind of address is not installed, or there is none.
    """
    printable_address = without_password(address)
    if "@" in address.partition("://")[2].partition("/")[0]:
        raise PipelineError(
            f"{setting}={printable_address} has a password in front of the @: set it in the "
            "environment instead, for S3 as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    kind, _, rest = address.partition("://")
    if kind not in KINDS or "::" in address or not rest:
        raise PipelineError(
            f"{setting}={printable_address} is not an address of object storage, such as "
            "s3://bucket/prefix or gs://bucket/prefix"
        )
    import fsspec

    with storage_errors_as_sentences(f"{setting}={printable_address} cannot be opened"):
        try:
            files, root = fsspec.core.url_to_fs(address)
        except ImportError as error:
            extra = EXTRAS.get(address.partition("://")[0])
            advice = f"pip install '.[{extra}]'" if extra else one_line(error)
            raise PipelineError(
                f"{setting}={printable_address} needs a package that is not installed: {advice}"
            ) from error
        except ValueError as error:
            raise PipelineError(f"{setting}={printable_address}: {one_line(error)}") from error
    return files, str(root).rstrip("/")


@contextmanager
def storage_errors_as_sentences(problem: str) -> Iterator[None]:
    """Turn any error of a file system into a PipelineError that begins with `problem`.

    Those of this machine pass: a full disk, too little memory, too many open files.
    """
    try:
        yield
    except (PipelineError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in OF_THIS_MACHINE:
            raise
        raise PipelineError(
            f"{problem} ({type(error).__name__}: {one_line(error)}): check the address and the "
            "credentials"
        ) from error
