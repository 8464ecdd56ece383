"""`pipeline serve` as a process, and its clients."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import psutil

SECONDS = 60


class Served:
    """The command as a process, ready for requests."""

    def __init__(
        self,
        *words: str,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        user: int | None = None,
    ) -> None:
        """
        Args:
            folder: The working directory.
            user: Who runs it; only root can choose another.
        """
        command = [sys.executable, "-m", "pipeline", "serve", *words, "--port", "0"]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | dict(environment or {}),
            cwd=folder,
            user=user,
        )
        assert self.process.stdout
        self.lines: list[str] = []
        for line in self.process.stdout:
            self.lines.append(line)
            if "http://" in line:
                break
        assert self.process.poll() is None, self.lines
        self.url = self.lines[-1].split()[1].rstrip("/")
        self.host, self.port = str(urlsplit(self.url).hostname), int(urlsplit(self.url).port or 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=SECONDS)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of a reply, on a connection of its own."""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            with connection.getresponse() as response:  # it has the socket if the server ends it
                return response.status, response.read()
        finally:
            connection.close()

    def predict(self, body: Any, content_type: str = "image/png") -> list[dict[str, Any]]:
        """The predictions for a body."""
        status, reply = self.ask("POST", "/predict", body, {"Content-Type": content_type})
        assert status == http.client.OK, reply
        records: list[dict[str, Any]] = json.loads(reply)["predictions"]
        return records

    def send(self, *blocks: bytes) -> bytes:
        """The first bytes of the reply to raw bytes; none if the connection closes before that."""
        with socket.create_connection((self.host, self.port), SECONDS) as connection:
            try:
                for block in blocks:
                    connection.sendall(block)
                return connection.recv(4096)
            except ConnectionError:
                return b""

    def decoders(self) -> list[psutil.Process]:
        """The processes that decode."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if _is_decoder(child)]

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """The exit code, and what is printed, after a signal."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, "".join(self.lines) + rest


def _is_decoder(process: psutil.Process) -> bool:
    try:
        return any("popen_loky" in word for word in process.cmdline())
    except psutil.Error:  # it has ended
        return False


class Clients:
    """Threads that send the same image again and again until the block ends."""

    def __init__(self, served: Served, image: bytes, number: int) -> None:
        self._served, self._image = served, image
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(number)]
        self.answers: Counter[tuple[int, str]] = Counter()
        """By status, and the model that answered or the error."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with closing(self._served.connect()) as connection:
            while not self._stopped.is_set():
                try:
                    self.answers[self._ask(connection)] += 1
                except (OSError, http.client.HTTPException) as error:
                    self.answers[0, repr(error)] += 1
                    return

    def _ask(self, connection: http.client.HTTPConnection) -> tuple[int, str]:
        connection.request("POST", "/predict", self._image, {"Content-Type": "image/png"})
        with connection.getresponse() as response:
            body = response.read()
        if response.status != http.client.OK:
            return response.status, body.decode()
        (record,) = json.loads(body)["predictions"]
        return response.status, record["model"]
