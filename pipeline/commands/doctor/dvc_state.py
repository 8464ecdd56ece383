"""The databases in which DVC remembers digests and links, outside the project's folder."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pipeline.commands.doctor.finding import Finding
from pipeline.commands.doctor.quarantine import Quarantine, isolate
from pipeline.core.errors import PipelineError
from pipeline.experiments import dvc

# In the folder of each project. Source: dvc_data/hashfile/state.py and dvc/repo/__init__.py.
DATABASES = ("hashes/local/cache.db", "links/cache.db", "index/data/db.db")


def examine(repair: bool) -> Iterator[Finding]:
    """Databases that SQLite cannot open: DVC then stops, whatever the command."""
    try:
        folder = _folder()
    except PipelineError:
        return  # so does DVC, which says why
    quarantine = Quarantine(folder / "quarantine") if repair else None
    for path in sorted(path for name in DATABASES for path in folder.glob(f"repo/*/{name}")):
        if not _can_open(path):
            problem = f"{path}, DVC's memory of digests, is damaged, and DVC stops at it"
            name = str(path.relative_to(folder))
            yield isolate(problem, path, name, quarantine, "DVC makes it anew")


def _folder() -> Path:
    """Raises PipelineError if DVC's configuration cannot be read."""
    from dvc.config import Config
    from dvc.dirs import site_cache_dir

    with dvc.errors_as_sentences("DVC's configuration cannot be read", "see `dvc config`"):
        return Path(site_cache_dir(Config(".dvc")["core"].get("site_cache_dir")))


def _can_open(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:  # locked, or not permitted
        return True
    except sqlite3.DatabaseError:
        return False
    return True
