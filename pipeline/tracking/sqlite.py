"""Addresses of SQLite databases, also of those below folders such as "a?b" and "a%20b"."""

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from pipeline.core import atomic

PREFIX = "sqlite:///"
DRIVER = "sqlite+pysqlite:///"


def to_address(path: Path) -> str:
    """The address of a database, with what would end the path escaped."""
    return _render(URL.create("sqlite", database=str(path)))


def resolve(address: str, folder: Path) -> str:
    """An address whose path is relative to `folder`, made absolute; others as they are."""
    path = to_path(address)
    if path is None or path.is_absolute():
        return address
    return _render(make_url(address).set(database=str(folder / path)))


def to_path(address: str) -> Path | None:
    """The path in the address of an SQLite database; None for other addresses."""
    if not address.startswith((PREFIX, DRIVER)):
        return None
    try:
        database = make_url(address).database
    except (ArgumentError, ValueError):  # such as one with a bad number
        return None
    return Path(database) if database and database != ":memory:" else None


def create_database(path: Path) -> None:
    """Create MLflow's database under another name and rename it: a kill leaves no partial file."""
    if not path.exists():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        with atomic.replacing(path) as staged:
            artifacts = (path.parent / "mlartifacts").as_uri()
            store = SqlAlchemyStore(to_address(staged), artifacts)  # type: ignore[no-untyped-call]
            store.engine.dispose()


def _render(url: URL) -> str:
    address = url.render_as_string()
    # For addresses with PREFIX, MLflow creates the folder that they name, without unescaping it.
    return address.replace(PREFIX, DRIVER, 1) if "%" in address else address
