import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from pipeline.commands.serve import server
from pipeline.commands.serve.server import Protocol, is_loopback, listen, url_of
from pipeline.core.errors import PipelineError


def test_addresses_of_this_machine_alone() -> None:
    loopback = ["127.0.0.1", "127.5.5.5", "::1", "localhost"]
    assert all(is_loopback(host) for host in loopback)
    assert not any(is_loopback(host) for host in ["0.0.0.0", "::", "10.0.0.1", "example.org"])


def test_a_socket_listens_at_once() -> None:
    with listen("127.0.0.1", 0) as server:
        port = server.getsockname()[1]
        assert url_of(server) == f"http://127.0.0.1:{port}/"
        socket.create_connection(("127.0.0.1", port), 5).close()
        with pytest.raises(PipelineError, match=f"port {port} is in use: choose another"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "a host"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(PipelineError, match="--host is an address of this machine"):
        listen(host, 0)


def answer_of(address: tuple[str, int], *blocks: bytes) -> bytes:
    """All that a server sends until it closes the connection."""
    with socket.create_connection(address, 30) as connection:
        received = b""
        for block in blocks:
            connection.sendall(block)
            received += connection.recv(4096)
        while block := connection.recv(4096):
            received += block
    return received


@pytest.fixture
def own_signals() -> Iterator[list[int]]:
    """Signals that the server did not take: without it they end the test process."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, before)


async def parse_form(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse each form as malformed."""
    with pytest.raises(MultiPartException):
        await MultiPartParser(Headers(scope=scope), Request(scope, receive).stream()).parse()
    await PlainTextResponse("refused")(scope, receive, send)


def test_malformed_forms_are_not_printed(
    own_signals: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 6\r\n"
    form = head + b"Content-Type: multipart/form-data; boundary=x\r\n\r\nsecret"

    def ask(address: tuple[str, int]) -> bytes:
        try:
            return answer_of(address, form)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with listen("127.0.0.1", 0) as listening, ThreadPoolExecutor() as pool:
        answer = pool.submit(ask, listening.getsockname())
        server.run(parse_form, listening)
    assert answer.result().endswith(b"refused")
    assert not caplog.records
    assert not own_signals


def test_slow_heads_end_a_connection_and_a_signal_the_server(
    monkeypatch: pytest.MonkeyPatch, own_signals: list[int]
) -> None:
    monkeypatch.setattr(Protocol, "head_seconds", 0.3)
    whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    def ask(address: tuple[str, int]) -> list[bytes]:
        try:
            return [
                answer_of(address),
                answer_of(address, whole, whole + b"GET / HTTP/1.1\r\nHo"),
            ]
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with listen("127.0.0.1", 0) as listening, ThreadPoolExecutor() as pool:
        answers = pool.submit(ask, listening.getsockname())
        server.run(PlainTextResponse("ok"), listening)  # returns after the signal
        silent, slow = answers.result()
    assert silent == b""
    assert slow.count(b"HTTP/1.1 200 OK") == 2
    assert not own_signals
