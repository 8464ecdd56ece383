"""A photo host on 127.0.0.1 with a latency, fast enough not to limit what is measured."""

import asyncio
import hashlib
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from random import Random

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


class _Host(asyncio.Protocol):
    """Keep-alive, one request at a time; the bytes of an image depend on its path."""

    def __init__(self, latency: float, filler: bytes) -> None:
        self.latency = latency
        self.filler = filler
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        if b"\r\n\r\n" in self.received:
            path = self.received.split(b" ", 2)[1]
            self.received = b""
            body = b"\xff\xd8\xff\xe0" + hashlib.sha256(path).digest() + self.filler
            asyncio.get_running_loop().call_later(
                self.latency, self.transport.write, HEAD % len(body) + body
            )


def _serve(latency: float, size: int, port: Connection) -> None:
    async def run() -> None:
        filler = Random(0).randbytes(size - 36)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: _Host(latency, filler), "127.0.0.1", 0, backlog=512
        )
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def serving(latency: float, size: int) -> Iterator[str]:
    """Yield the address of a host that sends images of `size` bytes after `latency` seconds."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve, args=(latency, size, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()
