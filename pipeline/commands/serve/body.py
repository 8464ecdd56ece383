"""Bodies of requests: read within limits of size, time and memory."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.commands.serve.limits import Limits, Refusal, refuse_when_busy

LENGTH = re.compile("[0-9]{1,18}")  # int refuses thousands of digits
MAX_DISCARDED = 8 * 2**20  # bytes of a body that nobody reads, before the connection is closed
DISCARD_SECONDS = 5


class Holding:
    """The bytes that a request has in memory."""

    def __init__(self, memory: "BodyMemory") -> None:
        self._memory = memory
        self.bytes = 0

    def add(self, number: int) -> None:
        """Count further bytes.

        Raises:
            Refusal: the request has too many, or all requests have.
        """
        limits = self._memory.limits
        self.bytes += number
        self._memory.bytes += number
        if self.bytes > limits.body_bytes:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"too large: a request may have {limits.body_bytes / 1e6:.0f} MB",
            )
        if self._memory.bytes > limits.held_bytes:
            raise refuse_when_busy()


class BodyMemory:
    """What all requests have in memory; used by the event loop's thread alone."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.bytes = 0

    @contextmanager
    def hold(self) -> Iterator[Holding]:
        """Count the bytes of a request until the block ends."""
        holding = Holding(self)
        try:
            yield holding
        finally:
            self.bytes -= holding.bytes

    async def read(self, request: Request, holding: Holding) -> bytes:
        """The body of a request.

        Raises:
            Refusal: it is too large, comes too slowly, or breaks off.
        """
        length = request.headers.get("Content-Length", "")
        if LENGTH.fullmatch(length) and int(length) > self.limits.body_bytes:
            holding.add(int(length))  # refuses it before it is sent
        blocks = []
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                async for block in request.stream():
                    holding.add(len(block))
                    blocks.append(block)
        except TimeoutError as error:
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "the body came too slowly") from error
        except ClientDisconnect as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the body broke off") from error
        return b"".join(blocks)


class UnreadBodies:
    """Reads what is left of a body before the reply, or closes the connection after it.

    A client that is still sending when the connection closes does not get the reply; but a body
    may be endless.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        has_more = has_body

        async def receive_counted() -> Message:
            nonlocal has_more
            message = await receive()
            has_more = message.get("more_body", False)
            return message

        async def send_when_read(message: Message) -> None:
            if message["type"] == "http.response.start" and has_more:
                if "expect" not in headers:  # such a client has not begun to send
                    with suppress(TimeoutError):
                        await _discard(receive_counted)
                if has_more:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive_counted, send_when_read)


async def _discard(receive: Receive) -> None:
    discarded = 0
    async with asyncio.timeout(DISCARD_SECONDS):
        while discarded < MAX_DISCARDED:
            message = await receive()
            discarded += len(message.get("body", b""))
            if not message.get("more_body", False):
                return


@asynccontextmanager
async def body_of(request: Request, memory: BodyMemory) -> AsyncIterator[tuple[bytes, Holding]]:
    """The body of a request, which counts as in memory until the block ends."""
    with memory.hold() as holding:
        yield await memory.read(request, holding), holding
