"""ContentStore in .cache/acquire/: downloads by content, and the URL of each.

Photographs are appended to packs, as git does with its objects: creating a file takes up to a
millisecond, appending to one a hundredth of that. An SQLite index has the position of each. It is
written after the bytes, so that a killed process leaves no entry without its bytes; and bytes are
checked against their digest when they are read. Archives are files of their own. Several processes
and data sets share one store.
"""

import hashlib
import os
import shutil
import sqlite3
import tempfile
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from filelock import FileLock

from pipeline.core import atomic, project
from pipeline.core.errors import PipelineError

MAX_MEMORY_BYTES = 2**20  # of a photograph; a larger one is buffered on disk
BLOCK = 2**20
# These names are in existing caches.
TABLE = "kept"
COLUMNS = "sha256, pack, start, size, unwanted"
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    url TEXT PRIMARY KEY, sha256 TEXT NOT NULL, pack TEXT NOT NULL, start INTEGER, size INTEGER,
    unwanted INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_sha256 ON {TABLE} (sha256);
"""
ARCHIVE = ""  # in place of the name of a pack: the content is a file of its own


@dataclass(frozen=True)
class StoredBody:
    """Position of a photograph in the store."""

    sha256: str
    pack: str
    start: int
    """In bytes."""
    size: int
    """In bytes."""
    opted_out: bool = False
    """Whether its owner forbade machine learning with it when it was fetched."""


class BodyBuffer:
    """Collects the bytes of a photograph, and their digest; use it in a `with` block."""

    def __init__(self, folder: Path) -> None:
        """`folder`: for the temporary file of a large one."""
        self._digest = hashlib.sha256()
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            MAX_MEMORY_BYTES, dir=str(folder)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)

    def rewind(self) -> IO[bytes]:
        self._file.seek(0)
        return self._file

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class ContentStore:
    """Use it in a `with` block; its methods are thread-safe."""

    def __init__(self) -> None:
        self.folder = project.cache() / "acquire"
        self._packs = self.folder / "packs"
        self._packs.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._own_pack = uuid.uuid4().hex  # only this object writes to it
        self._closed = False
        self._pack: IO[bytes] | None = None
        self._readers: dict[str, IO[bytes]] = {}
        self._path = self.folder / "index.db"
        self._index = self._open_index()

    def _open_index(self) -> sqlite3.Connection:
        try:
            with FileLock(self.folder / "lock"):  # for creating the database
                index = sqlite3.connect(
                    self._path, timeout=60, isolation_level=None, check_same_thread=False
                )
                index.execute("PRAGMA journal_mode = wal")
                index.execute("PRAGMA synchronous = normal")
                index.executescript(SCHEMA)
                return index
        except sqlite3.DatabaseError as error:
            raise self._index_error(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            self._index.close()
            for pack in (self._pack, *self._readers.values()):
                if pack is not None:
                    pack.close()

    def find_sha256(self, url: str) -> str | None:
        """Return the sha256 of the last download from a URL, or None."""
        body = self._find("url = ?", url)
        return body.sha256 if body else None

    def find_photo(self, url: str, sha256: str | None = None) -> StoredBody | None:
        """Return the photograph with a digest or, without one, of a URL; None if it is missing."""
        if sha256:
            return self._find(f"sha256 = ? AND pack != '{ARCHIVE}'", sha256)
        return self._find(f"url = ? AND pack != '{ARCHIVE}'", url)

    def read_photo(self, body: StoredBody) -> bytes:
        """Return the bytes of a photograph; the digest is checked unless this object wrote them.

        Raises:
            PipelineError: the pack is damaged; the entry is deleted, so the next run fetches it.
        """
        path = self._packs / body.pack
        try:
            with self._lock:
                if body.pack not in self._readers:
                    self._readers[body.pack] = path.open("rb")
                reader = self._readers[body.pack]
            data = os.pread(reader.fileno(), body.size, body.start)
        except FileNotFoundError:
            data = b""
        is_short = len(data) != body.size  # and so are all that follow it in the pack
        is_intact = body.pack == self._own_pack or hashlib.sha256(data).hexdigest() == body.sha256
        if is_short or not is_intact:
            with self._lock:
                where = "sha256 = ? OR (? AND pack = ? AND start >= ?)"
                self._run(
                    f"DELETE FROM {TABLE} WHERE {where}",  # noqa: S608 - constants
                    body.sha256,
                    is_short,
                    body.pack,
                    0 if not data else body.start,
                )
            raise PipelineError(f"{path} is damaged: run again to fetch the lost photographs again")
        return data

    def add_photo(self, url: str, body: BodyBuffer, opted_out: bool = False) -> StoredBody:
        """Store the photograph of a URL."""
        with self._lock:
            if self._closed:
                raise PipelineError("the store is closed")  # a late thread
            if self._pack is None:
                self._pack = (self._packs / self._own_pack).open("wb")
            start = self._pack.tell()
            shutil.copyfileobj(body.rewind(), self._pack, BLOCK)
            self._pack.flush()
            size = self._pack.tell() - start
            stored = StoredBody(body.sha256, self._own_pack, start, size, opted_out)
            self._record(url, stored)
        return stored

    def archive_path(self, sha256: str) -> Path:
        """Return where the archive with a digest is, if the store has it."""
        return self.folder / "files" / sha256

    def add_archive(self, file: Path, url: str, sha256: str) -> None:
        """Move the archive of a URL into the store."""
        target = self.archive_path(sha256)
        target.parent.mkdir(exist_ok=True)
        atomic.sync(file)
        file.replace(target)
        atomic.sync_name(target)
        with self._lock:
            self._record(url, StoredBody(sha256, ARCHIVE, 0, target.stat().st_size))

    def partial_path(self, url: str) -> Path:
        """Return where to download the archive of a URL to; always the same path."""
        folder = self.folder / "unfinished"
        folder.mkdir(exist_ok=True)
        return folder / hashlib.sha256(url.encode()).hexdigest()

    def _record(self, url: str, body: StoredBody) -> None:
        self._run(
            f"INSERT OR REPLACE INTO {TABLE} VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608 - a constant
            url,
            body.sha256,
            body.pack,
            body.start,
            body.size,
            body.opted_out,
        )

    def _find(self, where: str, value: str) -> StoredBody | None:
        with self._lock:
            query = f"SELECT {COLUMNS} FROM {TABLE} WHERE {where}"  # noqa: S608 - not user input
            row = self._run(query, value).fetchone()
        return StoredBody(*row) if row else None

    def _run(self, query: str, *values: str | int | bool) -> sqlite3.Cursor:
        try:
            return self._index.execute(query, values)
        except sqlite3.DatabaseError as error:
            raise self._index_error(error) from error

    def _index_error(self, error: sqlite3.DatabaseError) -> PipelineError:
        is_broken = getattr(error, "sqlite_errorcode", 0) in {
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
        }
        advice = f"delete {self.folder} to fetch everything again" if is_broken else "try again"
        return PipelineError(f"{self._path} cannot be used ({error}): {advice}")
