"""The MLflow database of a project, created once and copied: its tables take seconds to create."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.tracking import sqlite

# Where MLflow writes absolute addresses of files.
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
)


def make_store(folder: Path) -> None:
    """Create an empty mlflow.db in `folder`, as the first training of a project does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(folder))
        sqlite.create_database(folder / "mlflow.db")


def copy_store(source: Path, target: Path) -> None:
    """Copy mlflow.db to another folder, which has or will have the artifacts."""
    shutil.copy(source / "mlflow.db", target / "mlflow.db")
    with closing(sqlite3.connect(target / "mlflow.db")) as database, database:
        for table, column in ADDRESSES:
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                (f"{source}/", f"{target}/"),
            )
