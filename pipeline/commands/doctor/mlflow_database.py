"""MLflow's database, where it is a file."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pipeline.commands.doctor.finding import Finding
from pipeline.tracking import store

REMEDY = "put back a backup; or move it away, and `pipeline sync` records again what DVC has"


def examine() -> Iterator[Finding]:
    """What SQLite finds. It rolls back by itself what a killed process has begun to write."""
    store.connect()
    path = store.database_file()
    if path is not None and path.exists() and (problem := _find_problem(path)):
        yield Finding(f"MLflow's database {path} is damaged ({problem})", REMEDY)


def _find_problem(path: Path) -> str:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            query = "SELECT 1 FROM sqlite_master WHERE name = 'runs'"
            if verdict == "ok" and not database.execute(query).fetchall():
                return "it has no table of runs"
    except sqlite3.DatabaseError as error:
        return "" if "locked" in str(error) else str(error)  # locked: somebody writes, so it works
    return "" if verdict == "ok" else str(verdict)
