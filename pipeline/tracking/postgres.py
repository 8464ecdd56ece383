"""A PostgreSQL database that MLflow's store reaches directly: its driver, locks and clock."""

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, NullPool, create_engine, text

# As people write it, and what SQLAlchemy calls the driver of the extra `server`.
WITHOUT_DRIVER, DRIVER = re.compile("postgres(ql)?://"), "postgresql+psycopg://"
# libpq would wait for minutes, or for ever, for a machine that no longer answers. In seconds, but
# tcp_user_timeout in ms.
LIMITS = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
# The server releases the locks of a machine that no longer answers after 45 s; by default after
# two hours.
LOCK_SETTINGS = {
    "lock_timeout": "60s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


def is_postgres(uri: str) -> bool:
    """Whether an address is that of a PostgreSQL database."""
    return uri.startswith(("postgres:", "postgresql:", "postgresql+"))


def with_driver(uri: str) -> str:
    """The address of a database with the driver and with limits of time, unless it has them."""
    uri = WITHOUT_DRIVER.sub(DRIVER, uri, count=1)
    query = uri.partition("?")[2]
    limits = [f"{name}={value}" for name, value in LIMITS.items() if f"{name}=" not in query]
    return uri + ("&" if query else "?") * bool(limits) + "&".join(limits)


@contextmanager
def exclusive(uri: str, name: str) -> Iterator[None]:
    """Lock the database's lock of this name; processes of all machines wait for it, for 60 s.

    The lock ends with the connection. It is a transaction's, which poolers keep together.
    """
    with _connect(uri) as connection, connection.begin():
        for setting, value in LOCK_SETTINGS.items():
            query = text("SELECT set_config(:setting, :value, true)")
            connection.execute(query, {"setting": setting, "value": value})
        key = zlib.crc32(f"image-pipeline {name}".encode())
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        yield


def read_clock(uri: str) -> float:
    """Seconds since 1970 by the clock of the database's machine."""
    with _connect(uri) as connection:
        return float(connection.execute(text("SELECT extract(epoch FROM now())")).scalar_one())


@contextmanager
def _connect(uri: str) -> Iterator[Connection]:
    """A connection of its own."""
    with create_engine(uri, poolclass=NullPool).connect() as connection:
        yield connection
