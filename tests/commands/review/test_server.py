"""Requests to the real server on 127.0.0.1, as a browser and as other web pages send them."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pipeline.commands.review.server import NotFound, PageServer, Reply
from pipeline.core.errors import PipelineError

Answer = tuple[int, Mapping[str, str], bytes]


def get(path: str, query: Mapping[str, str]) -> Reply:
    if path == "missing":
        raise NotFound
    if path == "full":
        raise OSError(28, "No space left on device")
    if path == "broken":
        raise PipelineError("reject.csv is not a CSV file")
    return Reply.of_json([path, dict(query)])


def post(path: str, body: bytes) -> Reply:
    return Reply.of_json([path, body.decode()])


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer(0, get, post) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: PageServer, method: str, path: str, body: str | None = None, **headers: str | None
) -> Answer:
    usual = {"Host": f"127.0.0.1:{server.port}"}
    if method == "POST":
        usual |= {
            "Origin": f"http://127.0.0.1:{server.port}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body or "")),
        }
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    for name, value in (usual | named).items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders((body or "").encode())
    response = connection.getresponse()
    answer = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return answer


def error_of(answer: Answer) -> str:
    return str(json.loads(answer[2])["error"])


def test_the_page_of_the_address_is_answered(server: PageServer) -> None:
    status, headers, body = ask(server, "GET", f"/{server.token}/images?page=2&label=1")
    assert (status, json.loads(body)) == (200, ["images", {"page": "2", "label": "1"}])
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


def test_it_listens_at_the_loopback_address_alone(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.port}/{server.token}/"


def test_every_server_has_another_long_token(server: PageServer) -> None:
    with PageServer(0, get, post) as other:
        assert other.token != server.token
    assert len(server.token) == 32  # 24 bytes


@pytest.mark.parametrize("path", ["/", "/wrong/", "/{token}x/", "/x{token}/", "/é/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_without_the_token_is_refused(server: PageServer, method: str, path: str) -> None:
    quoted = path.format(token=server.token).replace("é", "%C3%A9")
    answer = ask(server, method, quoted)
    assert answer[0] == 403
    assert error_of(answer).startswith("wrong token: open the address that")
    assert server.token.encode() not in answer[2]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "[::1]:{port}", None],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_that_resolves_to_this_machine_is_refused(
    server: PageServer, method: str, host: str | None
) -> None:
    """As in DNS rebinding, where the page's own name points to 127.0.0.1."""
    name = host.format(port=server.port) if host else None
    origin = {"Origin": f"http://{name}"} if method == "POST" else {}
    answer = ask(server, method, f"/{server.token}/decisions", Host=name, **origin)
    assert (answer[0], error_of(answer)) == (421, "unknown host")


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1", None]
)
def test_a_change_that_another_page_sends_is_refused(
    server: PageServer, origin: str | None
) -> None:
    value = origin.format(port=server.port) if origin else None
    answer = ask(server, "POST", f"/{server.token}/decisions", "{}", Origin=value)
    assert (answer[0], error_of(answer)) == (403, "a request of another page")


def test_localhost_is_this_machine_too(server: PageServer) -> None:
    host = f"localhost:{server.port}"
    headers: dict[str, Any] = {"Host": host, "Origin": f"http://{host}"}
    assert ask(server, "POST", f"/{server.token}/decisions", "{}", **headers)[0] == 200


def test_a_form_cannot_send_changes(server: PageServer) -> None:
    form = "application/x-www-form-urlencoded"
    answer = ask(server, "POST", f"/{server.token}/decisions", "a=b", Content_Type=form)
    assert (answer[0], error_of(answer)) == (415, "not JSON")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_malformed_address_is_refused(
    server: PageServer, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = ask(server, method, "http://[")
    assert (answer[0], error_of(answer)) == (400, "malformed address")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("length", ["2000000", "9" * 5000, "-1", "x", "\u00b2", None])
def test_a_body_without_a_small_length_is_not_read(server: PageServer, length: str | None) -> None:
    answer = ask(server, "POST", f"/{server.token}/decisions", Content_Length=length)
    assert answer[0] == 413


def test_what_is_missing_or_wrong_is_one_sentence(server: PageServer) -> None:
    missing = ask(server, "GET", f"/{server.token}/missing")
    assert (missing[0], error_of(missing)) == (404, "nothing is here")
    full = ask(server, "GET", f"/{server.token}/full")
    assert (full[0], error_of(full)) == (409, "No space left on device")
    broken = ask(server, "GET", f"/{server.token}/broken")
    assert (broken[0], error_of(broken)) == (409, "reject.csv is not a CSV file")


def test_several_requests_share_a_connection(server: PageServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    origin = {"Origin": f"http://127.0.0.1:{server.port}", "Content-Type": "application/json"}
    for path, expected in ((f"/{server.token}/decisions", 200), ("/wrong/", 403)):
        connection.request("POST", path, "{}", origin)
        response = connection.getresponse()
        assert (response.status, response.will_close) == (expected, False)
        response.read()
    connection.close()


def test_a_browser_that_hangs_up_prints_nothing(
    server: PageServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHo")
    assert ask(server, "GET", f"/{server.token}/")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_port_that_is_in_use_is_one_sentence(server: PageServer) -> None:
    with pytest.raises(PipelineError, match=rf"^port {server.port} is in use: choose another"):
        PageServer(server.port, get, post)
