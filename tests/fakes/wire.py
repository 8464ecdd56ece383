"""A server that sends given bytes, for malformed responses."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

Content = bytes | Callable[[], Iterator[bytes]]
"""All at once, or in pieces with pauses between them."""


def reply(body: bytes = b"", *headers: str, status: str = "200 OK") -> bytes:
    """A valid response; a Content-Length among `headers` replaces the true one."""
    lines = [f"HTTP/1.1 {status}", "Connection: close", *headers]
    if not any(line.lower().startswith(("content-length", "transfer-")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8") + body


def chunked(*chunks: bytes) -> bytes:
    """The chunks of a body, with the last, empty one."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


class Wire:
    """Serves while the context lasts, one response per connection.

    The first request gets the first of `responses`, and so on; all further ones get the last.
    """

    def __init__(self, *responses: Content) -> None:
        self.responses: tuple[Content, ...] = responses or (reply(),)
        self.heads: list[str] = []
        """First line and headers of each request."""
        self.received = b""
        """All bytes received; complete once the context has ended."""
        self.connected = 0
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """The URL of a path."""
        return f"http://{host}:{self.port}{path}"

    @property
    def paths(self) -> list[str]:
        """The requested paths."""
        return [head.split(" ")[1] for head in self.heads]

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="wire")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connected += 1
                self._connections.append(connection)
                thread = threading.Thread(target=self._talk, args=(connection,), name="wire")
                self._threads.append(thread)
                thread.start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                data = connection.recv(2**16)
                if not data:
                    return
                head += data
                with self._lock:
                    self.received += data
            with self._lock:
                self.heads.append(head.decode("latin-1"))
                response = self.responses[min(len(self.heads), len(self.responses)) - 1]
            pieces = [response] if isinstance(response, bytes) else response()
            for piece in pieces:
                connection.sendall(piece)
                if self.ended.is_set():
                    break
