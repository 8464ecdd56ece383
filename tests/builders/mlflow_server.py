"""MLflow's server on 127.0.0.1, with a database and S3 behind it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.builders.postgres import free_port
from tests.builders.s3 import BUCKET

DESTINATION = f"s3://{BUCKET}/mlflow"
MAX_SECONDS = 200  # on a busy machine
STARTED = "Application startup complete"


@contextmanager
def serve_mlflow(database: str, folder: Path) -> Iterator[str]:
    """Run the server as docs/server.md does, without accounts; yield its address, and kill it.

    Args:
        folder: For its log.
    """
    log, port = folder / "server.log", free_port()
    options = ["--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    options += ["--backend-store-uri", database.replace("postgres:", "postgresql+psycopg:", 1)]
    options += ["--artifacts-destination", DESTINATION]
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *options],
            cwd=folder,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            start_new_session=True,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + MAX_SECONDS
        while STARTED not in log.read_text():
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
