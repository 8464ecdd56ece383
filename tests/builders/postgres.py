"""A PostgreSQL server on 127.0.0.1, run by an ordinary user, and databases in it."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

PASSWORD = "pass word/&"  # which addresses have to quote
QUOTED = "pass%20word%2F%26"
# Where packages of Debian, Red Hat and Homebrew have it; the newest comes last.
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off")
MAX_SECONDS = 30
REQUIRED = "PIPELINE_TEST_POSTGRES"  # .ci/run sets it where it has installed PostgreSQL
MISSING = "PostgreSQL is not installed, so its tests do not run: apt-get install postgresql"


def find_programs() -> Path:
    """The folder of initdb and postgres; without them, the test is skipped, or fails in CI."""
    folders = [folder for place in PLACES for folder in sorted(Path("/").glob(place[1:]))]
    if program := shutil.which("initdb"):
        folders.append(Path(program).parent)
    for folder in reversed(folders):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    if os.environ.get(REQUIRED):
        pytest.fail(MISSING)
    pytest.skip(MISSING)


class Postgres:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.address = f"postgres://mlflow:{QUOTED}@127.0.0.1:{port}"

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """The rows of a statement outside a transaction."""
        address = f"{self.address}/{database}".replace("postgres:", "postgresql+psycopg:", 1)
        engine = create_engine(address, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            return list(result) if result.returns_rows else []

    def create_database(self, name: str, template: str = "template0") -> str:
        """Create a database as a copy; return its address, as people write it."""
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return f"{self.address}/{name}"


@contextmanager
def serve_postgres() -> Iterator[Postgres]:
    """Start a server in a temporary folder; stop it at the end."""
    programs, user = find_programs(), _ordinary_user()
    # Not in pytest's folder, which other users may not enter.
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "password").write_text(PASSWORD)
        _give(folder, user)
        options = ["-A", "scram-sha-256", "-U", "mlflow", "--pwfile", str(folder / "password")]
        _run([programs / "initdb", "-N", "-D", folder / "data", *options], user)
        port = free_port()
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", ""]
        options += [word for setting in SETTINGS for word in ("-c", setting)]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", *options],
                cwd="/",
                stdout=subprocess.DEVNULL,
                stderr=log,
                **user,
            )
        try:
            yield _wait(Postgres(port), server, folder / "log")
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: what it has written is deleted
            server.wait()


def _ordinary_user() -> dict[str, Any]:
    """Options of subprocess for a user that PostgreSQL accepts: it refuses root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    name = "postgres" if "postgres" in names else "nobody"
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def _give(folder: Path, user: dict[str, Any]) -> None:
    if user:
        for path in (folder, *folder.iterdir()):
            os.chown(path, pwd.getpwnam(user["user"]).pw_uid, user["group"])


def _run(command: Sequence[str | Path], user: dict[str, Any]) -> None:
    result = subprocess.run(command, cwd="/", capture_output=True, text=True, **user)
    assert result.returncode == 0, result.stderr


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait(postgres: Postgres, server: "subprocess.Popen[bytes]", log: Path) -> Postgres:
    deadline = time.monotonic() + MAX_SECONDS
    while True:
        try:
            postgres.execute("SELECT 1")
        except OperationalError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return postgres
