"""What was fetched, by its content, and which address gave it: .cache/acquire/.

Photographs are appended to packs, as git keeps its objects: making a file for each costs a file
system up to a millisecond, appending to one a hundredth of that. An index (SQLite) says where each
stands. An entry follows its bytes, so whatever process is killed whenever, an entry leads to whole
bytes; and bytes are proved by their digest when they are read. Archives are files of their own.
Several processes and data sets share one store.
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

from pipeline.core import project
from pipeline.core.errors import PipelineError

IN_MEMORY = 2**20  # bytes of a photograph; what is larger waits on disk until it is whole
BLOCK = 2**20
TABLES = """
CREATE TABLE IF NOT EXISTS kept (
    url TEXT PRIMARY KEY, sha256 TEXT NOT NULL, pack TEXT NOT NULL, start INTEGER, size INTEGER,
    unwanted INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_sha256 ON kept (sha256);
"""
COLUMNS = "sha256, pack, start, size, unwanted"
ARCHIVE = ""  # in place of a pack: a file of its own


@dataclass(frozen=True)
class StoredBody:
    """Where a photograph stands."""

    sha256: str
    pack: str
    start: int
    size: int
    """Both in bytes."""
    opted_out: bool = False
    """Whether its owner wanted no machine learning with it when it was fetched."""


class BodyBuffer:
    """Bytes on their way into the store, and their digest so far; in a `with` block."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where a large one waits."""
        self._digest = hashlib.sha256()
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            IN_MEMORY, dir=str(folder)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)

    def rewound(self) -> IO[bytes]:
        self._file.seek(0)
        return self._file

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class ContentStore:
    """To be used in a `with` block. Its methods may be called from several threads."""

    def __init__(self) -> None:
        self.folder = project.cache() / "acquire"
        self._packs = self.folder / "packs"
        self._packs.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._own = uuid.uuid4().hex  # a pack belongs to one store object
        self._closed = False
        self._pack: IO[bytes] | None = None
        self._readers: dict[str, IO[bytes]] = {}
        self._path = self.folder / "index.db"
        self._index = self._opened()

    def _opened(self) -> sqlite3.Connection:
        try:
            with FileLock(self.folder / "lock"):  # two processes would race for a new database
                index = sqlite3.connect(
                    self._path, timeout=60, isolation_level=None, check_same_thread=False
                )
                index.execute("PRAGMA journal_mode = wal")
                index.execute("PRAGMA synchronous = normal")
                index.executescript(TABLES)
                return index
        except sqlite3.DatabaseError as error:
            raise self._unreadable(error) from error

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
        """The sha256 of what an address gave when it was last asked."""
        found = self._kept("url = ?", url)
        return found.sha256 if found else None

    def find_photo(self, url: str, sha256: str | None = None) -> StoredBody | None:
        """A photograph that is here: the one with a digest, or the one that an address gave."""
        if sha256:
            return self._kept(f"sha256 = ? AND pack != '{ARCHIVE}'", sha256)
        return self._kept(f"url = ? AND pack != '{ARCHIVE}'", url)

    def read_photo(self, kept: StoredBody) -> bytes:
        """The bytes of a photograph, proved unless this process wrote them.

        Raises:
            PipelineError: the disk has damaged it; it is forgotten, so that the next run mends it.
        """
        path = self._packs / kept.pack
        try:
            with self._lock:
                if kept.pack not in self._readers:
                    self._readers[kept.pack] = path.open("rb")
                reader = self._readers[kept.pack]
            data = os.pread(reader.fileno(), kept.size, kept.start)
        except FileNotFoundError:
            data = b""
        short = len(data) != kept.size  # then so are all that follow it in the pack
        proved = kept.pack == self._own or hashlib.sha256(data).hexdigest() == kept.sha256
        if short or not proved:
            with self._lock:
                self._run(
                    "DELETE FROM kept WHERE sha256 = ? OR (? AND pack = ? AND start >= ?)",
                    kept.sha256,
                    short,
                    kept.pack,
                    0 if not data else kept.start,
                )
            raise PipelineError(
                f"{path} was damaged on disk: run it again, and what is lost is fetched anew"
            )
        return data

    def add_photo(self, url: str, body: BodyBuffer, opted_out: bool = False) -> StoredBody:
        """Keep the photograph that an address gave."""
        with self._lock:
            if self._closed:
                raise PipelineError("the store is closed")  # a thread that is late: nobody reads it
            if self._pack is None:
                self._pack = (self._packs / self._own).open("wb")
            start = self._pack.tell()
            shutil.copyfileobj(body.rewound(), self._pack, BLOCK)
            self._pack.flush()
            kept = StoredBody(body.sha256, self._own, start, self._pack.tell() - start, opted_out)
            self._record(url, kept)
        return kept

    def archive_path(self, sha256: str) -> Path:
        """Where an archive stands, if it does."""
        return self.folder / "files" / sha256

    def add_archive(self, file: Path, url: str, sha256: str) -> None:
        """Move an archive that an address gave into the store."""
        target = self.archive_path(sha256)
        target.parent.mkdir(exist_ok=True)
        file.replace(target)
        with self._lock:
            self._record(url, StoredBody(sha256, ARCHIVE, 0, target.stat().st_size))

    def partial_path(self, url: str) -> Path:
        """Where an archive stands until it is whole; the same place each time."""
        folder = self.folder / "unfinished"
        folder.mkdir(exist_ok=True)
        return folder / hashlib.sha256(url.encode()).hexdigest()

    def _record(self, url: str, kept: StoredBody) -> None:
        self._run(
            "INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?, ?)",
            url,
            kept.sha256,
            kept.pack,
            kept.start,
            kept.size,
            kept.opted_out,
        )

    def _kept(self, where: str, value: str) -> StoredBody | None:
        with self._lock:
            query = f"SELECT {COLUMNS} FROM kept WHERE {where}"  # noqa: S608 - of our own making
            row = self._run(query, value).fetchone()
        return StoredBody(*row) if row else None

    def _run(self, query: str, *values: str | int | bool) -> sqlite3.Cursor:
        try:
            return self._index.execute(query, values)
        except sqlite3.DatabaseError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: sqlite3.DatabaseError) -> PipelineError:
        broken = getattr(error, "sqlite_errorcode", 0) in {
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
        }
        advice = f"delete {self.folder}, to fetch everything anew" if broken else "try again"
        return PipelineError(f"{self._path} cannot be used ({error}): {advice}")
