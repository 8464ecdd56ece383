"""A DVC remote, MLflow's artifacts and a folder of photographs on an S3 server at some latency.

    python -m bench.object_storage             # needs dvc-s3

The server is moto's, on 127.0.0.1, behind the proxy of `bench.shared_cache`. It computes in this
process, so that a real one is faster. Without latency, the seconds are those of the programs and of
the server.
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import s3fs
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from moto.server import ThreadedMotoServer

from bench.shared_cache import BUCKET, CREDENTIALS, delayed
from pipeline.stages.acquire.sources.object_storage import mirror
from tests.builders.s3 import create_bucket

FILES, BYTES = 200, 100_000
RUN_FILES = 40  # of an MLflow run
QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


class RequestCounter(logging.Handler):
    """Counts the server's log lines, which are one per request."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, _: logging.LogRecord) -> None:
        self.count += 1


@contextmanager
def served(seconds: float) -> Iterator[RequestCounter]:
    """A server whose answers come after some time."""
    counter, logger = RequestCounter(), logging.getLogger("werkzeug")
    logger.setLevel(logging.INFO)
    logger.handlers, logger.propagate = [counter], False
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with delayed(port, seconds / 2) as port:
        address = f"http://127.0.0.1:{port}"
        addresses = {"AWS_ENDPOINT_URL": address, "MLFLOW_S3_ENDPOINT_URL": address}
        environment = CREDENTIALS | addresses | QUIET
        with patch.dict(os.environ, environment):
            create_bucket()
            yield counter
    server.stop()


def write_files(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:04}").write_bytes(os.urandom(BYTES))


def run_dvc(folder: Path, *words: str) -> None:
    command = [sys.executable, "-m", "dvc", *words, "-q"]
    subprocess.run(command, cwd=folder, check=True, env=os.environ | {"DVC_NO_ANALYTICS": "true"})


def operations(folder: Path, name: str) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """What is measured: its name, its number of files, and the call."""
    project, run = folder / "project", folder / "run"
    write_files(project / "data", FILES)
    write_files(run, RUN_FILES)
    for words in (("init", "--no-scm"), ("add", "data")):
        run_dvc(project, *words)
    run_dvc(project, "remote", "add", "-d", "store", f"s3://{BUCKET}/{name}/dvc")
    yield "dvc push", FILES, lambda: run_dvc(project, "push")
    yield "dvc push, nothing new", FILES, lambda: run_dvc(project, "push")
    for path in (project / ".dvc/cache", project / "data"):
        subprocess.run(["rm", "-rf", path], check=True)
    yield "dvc pull", FILES, lambda: run_dvc(project, "pull")
    artifacts: Any = get_artifact_repository(f"s3://{BUCKET}/{name}/run")
    yield "MLflow, log artifacts", RUN_FILES, lambda: artifacts.log_artifacts(str(run))
    yield "MLflow, download artifacts", RUN_FILES, lambda: artifacts.download_artifacts("")
    photographs = f"{BUCKET}/{name}/photographs"
    files = {f"{photographs}/{path.name}": path for path in sorted((project / "data").iterdir())}
    s3fs.S3FileSystem().put(list(map(str, files.values())), list(files))
    with patch.dict(os.environ, {"DVC_ROOT": str(folder)}):
        yield "dataset.source", FILES, lambda: mirror(f"s3://{photographs}", 1e9)
        yield "dataset.source, nothing new", FILES, lambda: mirror(f"s3://{photographs}", 1e9)


def measure(latency: float, repeats: int) -> None:
    """Print what each operation takes."""
    with served(latency) as counter:
        for repeat in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                for name, files, call in operations(Path(folder), str(repeat)):
                    requests, start = counter.count, time.perf_counter()
                    call()
                    seconds = time.perf_counter() - start
                    print(
                        f"{latency * 1e3:.0f} ms, {name}: {files} files of {BYTES / 1e3:.0f} kB, "
                        f"{counter.count - requests} requests, {seconds:.2f} s",
                        flush=True,
                    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latency", type=float, default=0.03, help="seconds, there and back")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    for latency in (0.0, options.latency):
        measure(latency, options.repeats)


if __name__ == "__main__":
    main()
