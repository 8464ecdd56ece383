import gc
import gzip
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.acquire import http
from pipeline.errors import PipelineError
from pipeline.params import Acquire

BODY = bytes(range(256)) * 20
OPEN = Acquire(allow_private=True, max_gigabytes=1, max_file_megabytes=1)
CLOSED = Acquire(allow_private=False, max_gigabytes=1, max_file_megabytes=1)


class Handler(BaseHTTPRequestHandler):
    """A path says how the server answers."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.asked.append((self.path, self.headers["User-Agent"]))
        match self.path.split("?")[0].strip("/").split("/"):
            case ["ok", *_]:
                self.answer(200, BODY, {"Content-Length": str(len(BODY))})
            case ["unmeasured", *_]:
                self.answer(200, BODY, {})
            case ["short"]:
                self.answer(200, BODY[:100], {"Content-Length": str(len(BODY))})
            case ["short-chunk"]:
                self.answer(200, b"5\r\nabcde\r\n", {"Transfer-Encoding": "chunked"})
            case ["gzip"]:
                data = gzip.compress(BODY)
                length = {"Content-Length": str(len(data)), "Content-Encoding": "gzip"}
                self.answer(200, data, length)
            case ["redirect", target]:
                self.answer(302, b"", {"Location": self.server.targets[target]})
            case ["redirect-nowhere"]:
                self.answer(302, b"moved", {"Content-Length": "5"})
            case ["hop", count]:
                onward = f"../hop/{int(count) - 1}" if count != "1" else "/ok/end.zip"
                self.answer(301, b"", {"Location": onward})
            case ["broken"]:
                self.answer(500, b"", {})
            case _:
                self.answer(404, b"", {})

    def answer(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


class Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for every answer to end

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str]] = []
        self.targets: dict[str, str] = {}

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where downloads go; no proxy of this machine stands between."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path


def refusal(url: str, limits: Acquire = OPEN) -> str:
    with pytest.raises(PipelineError) as caught:
        http.download(url, limits)
    return str(caught.value)


def kept(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "path", ["ok/photos.zip", "ok/photos.zip?token=1", "unmeasured/photos.zip"]
)
def test_a_file_is_fetched_under_its_own_name(server: Server, root: Path, path: str) -> None:
    found = http.download(server.url(path), OPEN)
    assert found.name == "photos.zip"
    assert found.read_bytes() == BODY
    assert found.is_relative_to(root / ".cache" / "downloads")
    assert kept(root) == [found]


def test_the_server_is_told_who_asks(server: Server) -> None:
    http.download(server.url("ok/a.zip"), OPEN)
    assert server.asked == [("/ok/a.zip", http.USER_AGENT)]


def test_what_has_a_checksum_is_fetched_once(server: Server) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    first = http.download(server.url("ok/a.zip"), OPEN, digest)
    assert http.download(server.url("ok/a.zip"), OPEN, digest) == first
    assert server.paths == ["/ok/a.zip"]


def test_what_has_no_checksum_is_fetched_each_time(server: Server) -> None:
    for _ in range(2):
        assert http.download(server.url("ok/a.zip"), OPEN).read_bytes() == BODY
    assert len(server.paths) == 2


def test_another_address_or_checksum_is_another_download(server: Server) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    urls = (server.url("ok/a/x.zip"), server.url("ok/b/x.zip"))
    found = {http.download(url, OPEN, sha256) for url in urls for sha256 in (None, digest)}
    assert len(found) == 4


def test_an_address_without_a_name_still_has_a_file(server: Server) -> None:
    server.targets["root"] = server.url("ok/")
    assert http.download(server.url("ok/"), OPEN).name == "ok"
    assert http.download(server.url("redirect/root"), OPEN).read_bytes() == BODY


@pytest.mark.parametrize("hops", [1, 9])
def test_redirects_are_followed(server: Server, hops: int) -> None:
    assert http.download(server.url(f"hop/{hops}"), OPEN).read_bytes() == BODY
    assert len(server.asked) == hops + 1


def test_too_many_redirects_are_refused(server: Server, root: Path) -> None:
    assert refusal(server.url("hop/10")).endswith("redirects more than 10 times")
    assert len(server.asked) == http.REDIRECTS
    assert kept(root) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nothing", "404"),
        ("broken", "500"),
        ("short", "100 bytes read"),
        ("short-chunk", "ended prematurely"),
        ("redirect-nowhere", "302"),
    ],
)
def test_a_failed_download_says_why_and_what_to_do_and_keeps_nothing(
    server: Server, root: Path, path: str, said: str
) -> None:
    message = refusal(server.url(path))
    assert message.startswith(f"cannot download {server.url(path)} (")
    assert said in message
    assert message.endswith("): try again, or give a copy with -S dataset.source=PATH")
    assert kept(root) == []


@pytest.mark.parametrize("path", ["nothing", "hop/10", "ok/a.zip"])
def test_a_refused_answer_leaves_no_connection_open(server: Server, path: str) -> None:
    limits = OPEN.model_copy(update={"max_gigabytes": 1e-9})
    refusal(server.url(path), limits)
    gc.collect()  # a socket that nobody closed warns here, and warnings are errors


def test_a_server_that_does_not_listen_is_said(server: Server) -> None:
    url = server.url("ok/a.zip").replace(str(server.server_port), "1")
    assert refusal(url).startswith(f"cannot download {url} (no connection): try again")


def test_a_body_that_was_compressed_for_the_way_is_whole(server: Server) -> None:
    assert http.download(server.url("gzip"), OPEN).read_bytes() == BODY


@pytest.mark.parametrize("path", ["ok/a.zip", "unmeasured/a.zip", "gzip"])
def test_a_body_that_is_too_large_is_refused(server: Server, root: Path, path: str) -> None:
    limits = OPEN.model_copy(update={"max_gigabytes": (len(BODY) - 1) / 1e9})
    said = refusal(server.url(path), limits)
    assert said.startswith(f"{server.url(path)} is larger than acquire.max_gigabytes=5.119e-06")
    assert kept(root) == []


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_checksum_that_fits_is_accepted(server: Server, algorithm: str) -> None:
    expected = {algorithm: hashlib.new(algorithm, BODY).hexdigest()}
    assert http.download(server.url("ok/a.zip"), OPEN, **expected).read_bytes() == BODY


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_wrong_checksum_is_refused_and_nothing_kept(
    server: Server, root: Path, algorithm: str
) -> None:
    actual = hashlib.new(algorithm, BODY).hexdigest()
    wrong = "0" * len(actual)
    with pytest.raises(PipelineError) as caught:
        http.download(server.url("ok/a.zip"), OPEN, **{algorithm: wrong})
    assert str(caught.value).startswith(
        f"{server.url('ok/a.zip')} has {algorithm} {actual}, but dataset.toml says {wrong}: "
    )
    assert kept(root) == []


@pytest.mark.parametrize(
    "url",
    ["file:///etc/hostname", "ftp://example.org/a.zip", "a.zip", "http://", "http:///a.zip", ""],
)
def test_another_scheme_is_refused(url: str) -> None:
    assert refusal(url) == f"{url} is no http or https address"


@pytest.mark.parametrize("url", ["http://[::1", "http://[x]/a", "http://a..b/c", "http://h:port/"])
@pytest.mark.parametrize("limits", [OPEN, CLOSED], ids=["open", "closed"])
def test_an_address_that_is_none_is_refused(url: str, limits: Acquire) -> None:
    assert url in refusal(url, limits)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "[::1]", "0.0.0.0", "10.1.2.3", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "[fe80::1]", "[::ffff:127.0.0.1]", "2130706433",
    ],
)  # fmt: skip
def test_a_private_address_is_refused(host: str) -> None:
    said = refusal(f"http://{host}:1/a.zip", CLOSED)
    assert said.startswith(f"http://{host}:1/a.zip leads to the private address ")
    assert said.endswith(": set acquire.allow_private=true if that is meant")


def test_a_private_address_is_not_even_asked(server: Server) -> None:
    assert "the private address 127.0.0.1" in refusal(server.url("ok/a.zip"), CLOSED)
    assert server.asked == []


def test_a_redirect_to_another_scheme_is_refused(server: Server, root: Path) -> None:
    server.targets["file"] = "file:///etc/hostname"
    said = refusal(server.url("redirect/file"))
    assert said == "file:///etc/hostname is no http or https address"
    assert kept(root) == []
