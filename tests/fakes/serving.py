"""A small HTTP/1.1 server in a thread that fails on purpose."""

import asyncio
import math
import socket
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from tests.fakes.faults import NONE, Fault, Plan

FAULTY = ("api", "photo", "file")  # kinds that plans apply to
COUNTED = ("photo", "file")  # kinds that are counted in `completed`
ABORT = struct.pack("ii", 1, 0)  # linger for no time: closing sends RST


@dataclass(frozen=True)
class Raw:
    """A request; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Request:
    """A request in the record."""

    kind: str
    """api, photo, file, or placeholder (of a removed photo)."""
    method: str
    path: str
    """With the query."""
    form: Mapping[str, str]
    """The parameters of an API call."""
    headers: Mapping[str, str]
    """Names as in If-Range; of Authorization only the scheme."""
    at: float
    """The server's time.monotonic()."""


@dataclass(frozen=True)
class Reply:
    """A response before any fault."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Server(ABC):
    """Serves the replies of `route` while the context lasts."""

    def __init__(self, port: int = 0, latency: float = 0.0, plan: Plan | None = None) -> None:
        self.port = port
        self.latency = latency
        self.plan = plan
        self.requests: list[Request] = []
        self._completed: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._talks: dict[asyncio.Task[None], socket.socket] = {}
        self._errors: list[BaseException] = []

    @abstractmethod
    def route(self, raw: Raw) -> tuple[str, Mapping[str, str], Reply]:
        """Return the kind of a request, its form, and the reply."""

    def url(self, path: str = "") -> str:
        """The URL of a path, which starts with a slash."""
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def completed(self) -> Counter[str]:
        """How often each photo or file was sent completely."""
        if self._thread.is_alive():
            # A client may have read the last byte before the server has counted it.
            asyncio.run_coroutine_threadsafe(_turn(), self._loop).result(10)
        return self._completed.copy()

    def record(self) -> dict[str, Any]:
        """`requests` and `completed`, ready for JSON."""
        requests = [asdict(request) for request in list(self.requests)]
        return {"requests": requests, "completed": dict(self._completed)}

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="fake")
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if error is None and self._errors:
            raise self._errors[0]

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._loop.add_reader(self._socket, self._accept)
        self._ready.set()
        await self._stop.wait()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        talks = dict(self._talks)
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await _turn()
        for connection in talks.values():
            connection.close()  # of a task that was cancelled before its first step

    def _accept(self) -> None:
        # Not asyncio.start_server: it leaks connections that are accepted while it closes.
        with suppress(BlockingIOError):
            while True:
                connection, _ = self._socket.accept()
                connection.setblocking(False)
                task = self._loop.create_task(self._talk(connection))
                self._talks[task] = connection
                task.add_done_callback(self._hung_up)

    def _hung_up(self, task: asyncio.Task[None]) -> None:
        del self._talks[task]
        error = None if task.cancelled() else task.exception()
        if error:
            self._errors.append(error)

    async def _talk(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        writer.transport.set_write_buffer_limits(0)  # drain() waits until everything is sent
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # clients come and go
        finally:
            writer.transport.abort()  # everything is sent, or the client is gone

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Handle one request; return whether the connection stays open."""
        raw = await _read(reader)
        kind, form, reply = self.route(raw)
        headers = {name.title(): value for name, value in raw.headers.items()}
        if "Authorization" in headers:
            headers["Authorization"] = headers["Authorization"].split(" ")[0]
        request = Request(kind, raw.method, raw.target, form, headers, time.monotonic())
        fault = self._fault(request)
        if kind != "record":
            self.requests.append(request)
            await asyncio.sleep(self.latency)
        if fault.stall and not await _silence(reader, fault.stall):
            return False
        if fault.drop or not await _send(writer, _changed(reply, fault), fault, raw.method):
            return False
        if kind in COUNTED and raw.method == "GET" and reply.status < 300 and fault.is_harmless:
            self._completed[raw.target] += 1
        return raw.headers.get("connection", "").lower() != "close"

    def _fault(self, request: Request) -> Fault:
        if request.kind not in FAULTY or self.plan is None:
            return NONE
        self._counts[request.kind] += 1
        path = request.path
        if request.form:
            path += "?" + "&".join(f"{name}={text}" for name, text in sorted(request.form.items()))
        return self.plan(request.kind, self._counts[request.kind], path) or NONE


async def _turn() -> None:
    """Let the loop run everything that is due."""
    for _ in range(3):
        await asyncio.sleep(0)


async def _read(reader: asyncio.StreamReader) -> Raw:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    method, target, _version = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Raw(method, target, headers, body)


async def _silence(reader: asyncio.StreamReader, seconds: float) -> bool:
    """Wait; return whether the client is still connected."""
    try:
        await asyncio.wait_for(reader.read(1), None if math.isinf(seconds) else seconds)
    except TimeoutError:
        return True
    return False


def _changed(reply: Reply, fault: Fault) -> Reply:
    return replace(
        reply,
        status=fault.status or reply.status,
        body=reply.body if fault.body is None else fault.body,
        headers={**reply.headers, **dict(fault.headers)},
    )


def _head(reply: Reply, framing: Mapping[str, str]) -> bytes:
    lines = [f"{name}: {value}" for name, value in {**reply.headers, **framing}.items()]
    first = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1")


async def _send(writer: asyncio.StreamWriter, reply: Reply, fault: Fault, method: str) -> bool:
    """Send a reply; return whether it was complete."""
    if fault.step:
        await _send_without_end(writer, reply, fault)
    count = fault.sent_bytes(len(reply.body)) if method != "HEAD" else 0
    writer.write(_head(reply, {"Content-Length": str(len(reply.body))}) + reply.body[:count])
    await writer.drain()
    if fault.reset:
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        writer.transport.abort()
    return fault.keep is None


async def _send_without_end(writer: asyncio.StreamWriter, reply: Reply, fault: Fault) -> None:
    """Send the body, then zeros, until the client closes and drain() raises."""
    framing = {"Transfer-Encoding": "chunked"} if fault.chunked else {"Connection": "close"}
    writer.write(_head(reply, framing))
    start = 0
    while True:
        piece = reply.body[start : start + fault.step].ljust(fault.step, b"\0")
        start += fault.step
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if fault.chunked else piece)
        await writer.drain()
        await asyncio.sleep(fault.pause)
