"""Names for downloaded tables, by whose suffix readers know the format."""

import hashlib
import re
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pipeline.core import project
from pipeline.stages.acquire.layouts.file_names import ARCHIVE_SUFFIXES, TABLE_SUFFIXES
from pipeline.stages.acquire.layouts.table_files import UTF16_STARTS

SAMPLE = 16_384  # bytes
PARQUET = b"PAR1"
CONTROL = re.compile(rb"[\0-\x08\x0e-\x1f]")  # in archives and images, and in no text
MAX_STEM = 80  # characters


def name_table(path: Path, address: str) -> Path:
    """Return a link to a downloaded table that has the suffix of its format.

    The suffix is that of the address, without its query. Without one of a table, the first bytes
    decide. Folders, archives and tables that have their suffix are returned as they are. The link
    is the only file in its folder.

    Args:
        path: The downloaded file or folder.
        address: Its URL, or its address in object storage.
    """
    if path.is_dir() or path.suffix.lower() in TABLE_SUFFIXES:
        return path
    name = PurePosixPath(urlsplit(address).path)
    suffix = name.suffix.lower()
    if suffix in ARCHIVE_SUFFIXES:
        return path
    if suffix not in TABLE_SUFFIXES:
        suffix = _suffix_of_content(path)
    return _link(path, address, name.stem, suffix) if suffix else path


def _suffix_of_content(path: Path) -> str:
    """The suffix of a table with this content; "" if it is none."""
    with path.open("rb") as file:
        start = file.read(SAMPLE)
    if start.startswith(PARQUET):
        return ".parquet"
    if start.startswith(UTF16_STARTS):
        return ".csv"
    if CONTROL.search(start):
        return ""
    return ".jsonl" if start.lstrip()[:1] in {b"{", b"["} else ".csv"  # of any separator


def _link(path: Path, address: str, stem: str, suffix: str) -> Path:
    target = path.absolute()
    digest = hashlib.sha256(f"{address}\n{target}".encode()).hexdigest()[:16]
    link = project.cache() / "acquire" / "tables" / digest / f"{_as_stem(stem)}{suffix}"
    link.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        link.symlink_to(target)
    return link


def _as_stem(name: str) -> str:
    """The last part of a URL as the name of a file that systems take."""
    return re.sub(r"[^\w-]+", "_", name, flags=re.ASCII)[:MAX_STEM].strip("_") or "table"
