import gc
import gzip
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline import __version__
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.client import HEADERS, MAX_API_BYTES, MAX_REDIRECTS, Client
from pipeline.stages.acquire.web.fetch_error import FetchError
from pipeline.stages.acquire.web.retry import Policy
from tests.builders.params import ACQUIRE_PARAMS
from tests.fakes import faults
from tests.fakes.faults import always, cut, header, once, redirect, throttled
from tests.fakes.flickr import FakeFlickr
from tests.fakes.photos import photos
from tests.fakes.wire import Wire, chunked, reply

CARS = photos("car", 4)
BODY = bytes(range(256)) * 20
POLICY = Policy(connect_timeout=5, read_timeout=5, attempts=3, pause=0.01)
HASTY = Policy(connect_timeout=0.3, read_timeout=0.3, attempts=3, pause=0.01)
"""For servers that are slow on purpose; POLICY tolerates a busy machine."""
MAX_BYTES = 100_000


pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def fake() -> Iterator[FakeFlickr]:
    with FakeFlickr(CARS) as fake:
        yield fake


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(ACQUIRE_PARAMS, POLICY) as client:
        yield client


@pytest.fixture
def hasty() -> Iterator[Client]:
    with Client(ACQUIRE_PARAMS, HASTY) as client:
        yield client


def get_once(client: Client, url: str, max_bytes: float = MAX_BYTES) -> bytes:
    with client.open(url) as response:
        return b"".join(response.blocks(max_bytes))


def get(client: Client, url: str, max_bytes: float = MAX_BYTES) -> bytes:
    return client.retry(lambda: get_once(client, url, max_bytes))


def fetch_error(client: Client, url: str, max_bytes: float = MAX_BYTES) -> FetchError:
    """The error of a single attempt."""
    with pytest.raises(FetchError) as caught:
        get_once(client, url, max_bytes)
    return caught.value


def ends_within(seconds: float, work: Callable[[], object]) -> bool:
    """Whether some work returns or raises in time; if not, it continues in a thread."""
    thread = threading.Thread(target=lambda: _quietly(work), daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def _quietly(work: Callable[[], object]) -> None:
    with suppress(Exception):
        work()


def url_of(fake: FakeFlickr, number: int = 0) -> str:
    return fake.url(CARS[number].path("z"))


# Responses and statuses.


def test_a_body_is_read(fake: FakeFlickr, client: Client) -> None:
    assert get(client, url_of(fake)) == fake.photo_bytes_of(CARS[0], "z")


def test_a_body_without_a_length_is_read_to_its_end(client: Client) -> None:
    data = b"HTTP/1.1 200 OK\r\n\r\n" + BODY
    with Wire(data) as wire:
        assert get(client, wire.url()) == BODY


def test_a_chunked_body_is_read(client: Client) -> None:
    data = reply(chunked(BODY[:7], BODY[7:]), "Transfer-Encoding: chunked")
    with Wire(data) as wire:
        assert get(client, wire.url()) == BODY


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("404 Not Found", SkipReason.GONE),
        ("410 Gone", SkipReason.GONE),
        ("401 Unauthorized", SkipReason.FORBIDDEN),
        ("403 Forbidden", SkipReason.FORBIDDEN),
        ("451 Unavailable For Legal Reasons", SkipReason.FORBIDDEN),
        ("400 Bad Request", SkipReason.REFUSED),
        ("501 Not Implemented", SkipReason.REFUSED),
        ("999 Denied", SkipReason.REFUSED),
        ("201 Created", SkipReason.REFUSED),
        ("204 No Content", SkipReason.REFUSED),
        ("206 Partial Content", SkipReason.REFUSED),
        ("302 Found", SkipReason.REFUSED),
        ("304 Not Modified", SkipReason.REFUSED),
    ],
)
def test_a_permanent_status_is_not_retried(client: Client, status: str, reason: SkipReason) -> None:
    with Wire(reply(b"", status=status)) as wire:
        with pytest.raises(FetchError) as caught:
            get(client, wire.url())
        assert len(wire.heads) == 1
    assert (caught.value.reason, caught.value.transient) == (reason, False)
    assert caught.value.status == int(status[:3])


@pytest.mark.parametrize("code", [408, 429, 500, 503, 524])
def test_a_transient_status_is_retried(client: Client, code: int) -> None:
    with Wire(reply(b"no", status=f"{code} Some Words"), reply(BODY)) as wire:
        assert get(client, wire.url()) == BODY
        assert len(wire.heads) == 2


def test_an_error_names_url_and_status(client: Client) -> None:
    with Wire(reply(b"", status="404 Not Here")) as wire:
        assert (
            str(fetch_error(client, wire.url("/a.jpg")))
            == f"{wire.url('/a.jpg')} answers 404 Not Here"
        )


def test_a_status_without_a_phrase_is_a_number(client: Client) -> None:
    with Wire(b"HTTP/1.1 404\r\n\r\n") as wire:
        assert str(fetch_error(client, wire.url())) == f"{wire.url()} answers 404"


def test_all_attempts_may_fail(client: Client) -> None:
    with Wire(reply(b"", status="503 Busy")) as wire:
        with pytest.raises(FetchError) as caught:
            get(client, wire.url())
        assert len(wire.heads) == POLICY.attempts
    assert (caught.value.reason, caught.value.status) == (SkipReason.UNREACHABLE, 503)


def test_the_last_attempt_may_succeed(client: Client) -> None:
    busy = [reply(b"", status="503 Busy")] * (POLICY.attempts - 1)
    with Wire(*busy, reply(BODY)) as wire:
        assert get(client, wire.url()) == BODY


def test_pauses_between_attempts_grow(fake: FakeFlickr) -> None:
    fake.plan = always("", faults.status(503))
    policy = Policy(connect_timeout=0.3, read_timeout=0.3, attempts=4, pause=0.05, max_pause=0.1)
    with Client(ACQUIRE_PARAMS, policy) as client, pytest.raises(FetchError):
        get(client, url_of(fake))
    moments = [request.at for request in fake.requests]
    pauses = [after - before for before, after in pairwise(moments)]
    minima = [0.025, 0.05, 0.05]  # half of 0.05 doubled each time, up to max_pause
    assert all(pause >= minimum for pause, minimum in zip(pauses, minima, strict=True))


# Retry-After.


def test_retry_after_pauses_all_requests_to_the_host(fake: FakeFlickr, client: Client) -> None:
    fake.plan = once("", throttled(1))
    error = fetch_error(client, url_of(fake))
    assert (error.reason, error.transient, error.retry_after) == (
        SkipReason.UNREACHABLE,
        True,
        1,
    )
    assert get_once(client, url_of(fake, 1)) == fake.photo_bytes_of(CARS[1], "z")
    assert fake.requests[1].at - fake.requests[0].at >= 0.95


def test_retry_after_does_not_pause_other_hosts(fake: FakeFlickr, client: Client) -> None:
    fake.plan = once("", throttled(60))
    fetch_error(client, url_of(fake))
    start = time.monotonic()
    get_once(client, url_of(fake).replace("127.0.0.1", "localhost"))
    assert time.monotonic() - start < 5


def test_retry_after_may_be_a_date(fake: FakeFlickr, client: Client) -> None:
    fake.plan = once("", throttled(datetime.now(UTC) + timedelta(seconds=60)))
    assert 55 < (fetch_error(client, url_of(fake)).retry_after or 0) <= 60


def test_a_retry_after_in_the_past_is_no_pause(fake: FakeFlickr, client: Client) -> None:
    fake.plan = once("", throttled(datetime.now(UTC) - timedelta(days=1)))
    assert get(client, url_of(fake)) == fake.photo_bytes_of(CARS[0], "z")


def test_retry_after_applies_between_attempts(fake: FakeFlickr, client: Client) -> None:
    fake.plan = once("", throttled(datetime.now(UTC) + timedelta(seconds=2)))
    get(client, url_of(fake))
    assert fake.requests[1].at - fake.requests[0].at >= 0.9


def test_a_host_with_a_too_long_retry_after_is_given_up(fake: FakeFlickr) -> None:
    fake.plan = once("", throttled(31))
    start = time.monotonic()
    with Client(ACQUIRE_PARAMS, Policy(pause=0.01, max_pause=30)) as client:
        with pytest.raises(FetchError):
            get(client, url_of(fake))
        with pytest.raises(FetchError, match="allows no request for 3"):
            get_once(client, url_of(fake, 1))
    assert time.monotonic() - start < 5
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "value",
    ["", "soon", "-1", "9" * 5000, "Fri, 31 Dec 99999 23:59:59 GMT", "Fri, 31 Dec 1999", "\xff"],
    ids=lambda value: value[:12],
)
def test_an_invalid_retry_after_is_ignored(client: Client, value: str) -> None:
    with Wire(reply(b"", f"Retry-After: {value}", status="429 Slowly"), reply(BODY)) as wire:
        assert get(client, wire.url()) == BODY


def test_the_rate_limit_holds_for_all_threads(fake: FakeFlickr) -> None:
    limits = ACQUIRE_PARAMS.model_copy(update={"per_host_per_second": 20})
    with Client(limits, POLICY) as client:
        threads = [
            threading.Thread(target=get_once, args=(client, url_of(fake))) for _ in range(10)
        ]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - start >= 9 / 20
    assert len(fake.requests) == 10


# Broken responses.


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (faults.STALL, "does not answer in time"),
        (faults.DROP, "cannot be reached"),
        (faults.RESET, "breaks the connection"),
        (faults.SHORT, "breaks the connection"),
        (cut(0), "breaks the connection"),
        (faults.DRIP, "sends too slowly"),
    ],
    ids=["stall", "drop", "reset", "short", "nothing", "drip"],
)
def test_a_broken_response_is_a_transient_error(
    fake: FakeFlickr, client: Client, hasty: Client, fault: faults.Fault, message: str
) -> None:
    fake.plan = once("", fault)
    error = fetch_error(hasty, url_of(fake))
    assert (error.reason, error.transient) == (SkipReason.UNREACHABLE, True)
    assert str(error) == f"{url_of(fake)} {message}"
    assert get(client, url_of(fake)) == fake.photo_bytes_of(CARS[0], "z")


def test_silence_in_the_middle_of_a_body_is_a_timeout(hasty: Client) -> None:
    def halting() -> Iterator[bytes]:
        yield reply(BODY)[:-100]
        wire.ended.wait(10)

    with Wire() as wire:
        wire.responses = (halting,)
        assert str(fetch_error(hasty, wire.url())) == f"{wire.url()} does not answer in time"


def test_a_refused_connection_is_a_transient_error(client: Client) -> None:
    with Wire() as wire:
        url = wire.url()
    error = fetch_error(client, url)
    assert (error.reason, error.transient) == (SkipReason.UNREACHABLE, True)
    assert str(error) == f"{url} cannot be reached"


def test_an_unknown_host_is_a_transient_error(client: Client) -> None:
    error = fetch_error(client, "http://nowhere.invalid/")
    assert (error.reason, error.transient) == (SkipReason.UNREACHABLE, True)


@pytest.mark.parametrize("fault", [faults.ENDLESS, faults.CHUNKS], ids=["endless", "chunks"])
def test_an_endless_body_is_too_large(
    fake: FakeFlickr, client: Client, fault: faults.Fault
) -> None:
    fake.plan = always("", fault)
    error = fetch_error(client, url_of(fake))
    assert (error.reason, error.transient) == (SkipReason.TOO_LARGE, False)
    assert str(error) == f"{url_of(fake)} is larger than {MAX_BYTES} bytes"


@pytest.mark.parametrize(("max_bytes", "fits"), [(len(BODY), True), (len(BODY) - 1, False)])
@pytest.mark.parametrize("length", [f"Content-Length: {len(BODY)}", "Connection: close"])
def test_a_body_may_be_as_large_as_the_limit(
    client: Client, length: str, max_bytes: int, fits: bool
) -> None:
    data = f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode() + BODY
    with Wire(data) as wire:
        if fits:
            assert get_once(client, wire.url(), max_bytes) == BODY
        else:
            assert fetch_error(client, wire.url(), max_bytes).reason is SkipReason.TOO_LARGE


def test_a_body_with_a_too_large_length_is_not_read(client: Client) -> None:
    with Wire(reply(b"", f"Content-Length: {MAX_BYTES + 1}")) as wire:
        assert fetch_error(client, wire.url()).reason is SkipReason.TOO_LARGE


@pytest.mark.parametrize(
    "length",
    ["five", "-5", "5.0", "", "9" * 5000, "²"],
    ids=lambda length: length[:8] or "empty",
)
def test_an_invalid_length_is_ignored(client: Client, length: str) -> None:
    data = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    with Wire(data.encode("latin-1") + BODY) as wire:
        assert get_once(client, wire.url()) == BODY


def test_a_body_shorter_than_its_length_is_an_error(client: Client) -> None:
    with Wire(reply(BODY, f"Content-Length: {len(BODY) + 1}")) as wire:
        error = fetch_error(client, wire.url())
    assert (error.reason, error.transient) == (SkipReason.UNREACHABLE, True)


def test_nothing_after_the_length_is_read(client: Client) -> None:
    with Wire(reply(BODY + b"more", f"Content-Length: {len(BODY)}")) as wire:
        assert get_once(client, wire.url()) == BODY


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"\xff\xd8\xff\xe0\x00\x10JFIF",
        b"HTTP/1.1",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"A" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nphoto",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 5000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nphoto",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nphoto\r\n",
    ],
)
def test_a_malformed_response_is_a_transient_error(client: Client, data: bytes) -> None:
    with Wire(data) as wire:
        error = fetch_error(client, wire.url())
    assert (error.reason, error.transient) == (SkipReason.UNREACHABLE, True)


@pytest.mark.parametrize(
    "headers",
    [
        [f"X-{number}: y" for number in range(101)],
        ["X: " + "y" * 2**16],
        ["Y" * 2**20],
        ["X: y"] * 100_000,
    ],
    ids=["many", "long", "huge", "flood"],
)
def test_too_many_or_too_long_headers_are_an_error(client: Client, headers: list[str]) -> None:
    with Wire(reply(BODY, *headers)) as wire:
        error = fetch_error(client, wire.url())
    assert (error.reason, error.transient) == (SkipReason.UNREACHABLE, True)


@pytest.mark.parametrize(
    "name",
    [
        "Content-Encoding",
        "Transfer-Encoding",
        "Set-Cookie",
        "Location",
        "ETag",
        "X-Robots-Tag",
        "Content-Range",
        "Content-Type",
        "Link",
        "Connection",
    ],
)
def test_a_malformed_header_is_ignored_or_a_fetch_error(client: Client, name: str) -> None:
    for value in ("\xff\xfe", "", '"', "a=b; c, d;;;=", "\x1b[2J", "%", "☃"):
        with Wire(reply(BODY, f"{name}: {value}")) as wire, suppress(FetchError):
            get_once(client, wire.url())


class TestEndlessResponses:
    """Every byte arrives before the timeout of the socket."""

    def ends(self, respond: Callable[[Wire], Iterator[bytes]]) -> bool:
        policy = Policy(connect_timeout=0.2, read_timeout=0.2)
        with Client(ACQUIRE_PARAMS, policy) as client, Wire() as wire:
            wire.responses = (lambda: respond(wire),)
            return ends_within(2.5, lambda: get_once(client, wire.url()))

    def test_a_first_line_that_drips(self) -> None:
        def respond(wire: Wire) -> Iterator[bytes]:
            yield b"HTTP/1.1 200 O"
            while not wire.ended.wait(0.02):
                yield b"K"

        assert self.ends(respond)

    def test_headers_that_drip(self) -> None:
        def respond(wire: Wire) -> Iterator[bytes]:
            yield b"HTTP/1.1 200 OK\r\nX-Header: "
            while not wire.ended.wait(0.02):
                yield b"y"

        assert self.ends(respond)

    def test_headers_that_drip_leave_no_connection_open(self) -> None:
        def respond() -> Iterator[bytes]:
            yield b"HTTP/1.1 200 OK\r\n"
            while not wire.ended.wait(0.02):
                yield b"X-Header: y\r\n"

        with (
            Client(ACQUIRE_PARAMS, Policy(connect_timeout=0.2, read_timeout=0.2)) as client,
            Wire() as wire,
        ):
            wire.responses = (respond,)
            assert str(fetch_error(client, wire.url())) == f"{wire.url()} does not answer in time"
        gc.collect()  # an unclosed socket warns here, and warnings are errors

    def test_repeated_100_continue(self) -> None:
        def respond(wire: Wire) -> Iterator[bytes]:
            while not wire.ended.wait(0.001):
                yield b"HTTP/1.1 100 Continue\r\n\r\n"

        assert self.ends(respond)

    def test_trailers_after_the_last_chunk(self) -> None:
        def respond(wire: Wire) -> Iterator[bytes]:
            yield reply(chunked(BODY)[:-2], "Transfer-Encoding: chunked")
            while not wire.ended.wait(0.001):
                yield b"X-Trailer: y\r\n"

        assert self.ends(respond)

    def test_a_chunk_length_that_drips(self) -> None:
        def respond(wire: Wire) -> Iterator[bytes]:
            yield reply(b"", "Transfer-Encoding: chunked")
            while not wire.ended.wait(0.02):
                yield b"0"

        assert self.ends(respond)

    def test_the_body_of_a_redirect(self) -> None:
        def respond(wire: Wire) -> Iterator[bytes]:
            yield b"HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\n\r\n"
            while not wire.ended.wait(0.001):
                yield bytes(1000)

        assert self.ends(respond)

    def test_the_body_of_a_refusal(self) -> None:
        def respond(wire: Wire) -> Iterator[bytes]:
            yield b"HTTP/1.1 404 Not Found\r\n\r\n"
            while not wire.ended.wait(0.001):
                yield bytes(1000)

        assert self.ends(respond)

    def test_a_compressed_body_of_empty_blocks(self) -> None:
        def respond(wire: Wire) -> Iterator[bytes]:
            yield reply(b"", "Content-Encoding: gzip", "Transfer-Encoding: chunked")
            yield b"a\r\n" + gzip.compress(b"")[:10] + b"\r\n"
            while not wire.ended.wait(0.001):
                yield b"5\r\n\x00\x00\x00\xff\xff\r\n"  # an empty block

        assert self.ends(respond)


# Compressed bodies, though none was requested.


def compressed(data: bytes, encoding: str = "gzip") -> bytes:
    return reply(data, f"Content-Encoding: {encoding}")


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_a_compressed_body_is_decompressed(
    client: Client, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    with Wire(compressed(compress(BODY), encoding)) as wire:
        assert get_once(client, wire.url()) == BODY


def test_a_compressed_body_may_arrive_byte_by_byte(client: Client) -> None:
    def slowly() -> Iterator[bytes]:
        data = compressed(gzip.compress(b"photograph"))
        yield data[:-30]
        for byte in data[-30:]:
            yield bytes([byte])
            time.sleep(0.002)

    with Wire(slowly) as wire:
        assert get_once(client, wire.url()) == b"photograph"


def test_a_truncated_compressed_body_is_an_error(client: Client) -> None:
    data = gzip.compress(BODY)
    data = reply(data[:-20], "Content-Encoding: gzip", f"Content-Length: {len(data)}")
    with Wire(data) as wire:
        error = fetch_error(client, wire.url())
    assert (error.reason, error.transient) == (SkipReason.UNREACHABLE, True)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_with_a_wrong_content_encoding_is_an_error(client: Client, encoding: str) -> None:
    with Wire(compressed(BODY, encoding)) as wire:
        error = fetch_error(client, wire.url())
    assert (error.reason, error.transient) == (SkipReason.UNREACHABLE, True)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_compressed_bomb_is_too_large_and_uses_little_memory(client: Client, layers: int) -> None:
    bomb = gzip.compress(bytes(2**26))
    for _ in range(layers - 1):
        bomb = gzip.compress(bomb)
    encoding = ", ".join(["gzip"] * layers)
    with Wire(compressed(bomb, encoding)) as wire:
        tracemalloc.start()
        try:
            error = fetch_error(client, wire.url(), 10e6)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert error.reason is SkipReason.TOO_LARGE
    assert peak < 10e6 + 2**23


def test_many_layers_of_compression_are_an_error(client: Client) -> None:
    with Wire(compressed(BODY, ", ".join(["gzip"] * 50))) as wire:
        assert fetch_error(client, wire.url()).reason is SkipReason.UNREACHABLE


# X-Robots-Tag.


@pytest.mark.parametrize(
    "tag",
    [
        "noai",
        "noimageai",
        "NoAI",
        "noindex, noai",
        "unavailable_after: 25 Jun 2030 15:00:00 PST, noai",
    ],
)
def test_an_opt_out_is_respected(fake: FakeFlickr, client: Client, tag: str) -> None:
    fake.plan = once("", header("X-Robots-Tag", tag))
    error = fetch_error(client, url_of(fake))
    assert (error.reason, error.transient) == (SkipReason.ROBOTS, False)
    assert str(error).endswith("leave it out, or set acquire.respect_robots=false")


def test_an_opt_out_may_be_in_the_second_of_two_headers(client: Client) -> None:
    tags = ("X-Robots-Tag: googlebot: noindex", "x-robots-tag: noai")
    with Wire(reply(BODY, *tags)) as wire:
        assert fetch_error(client, wire.url()).reason is SkipReason.ROBOTS


@pytest.mark.parametrize("tag", ["", "noindex, nofollow", "googlebot: noai", "noaix"])
def test_other_directives_are_ignored(fake: FakeFlickr, client: Client, tag: str) -> None:
    fake.plan = always("", header("X-Robots-Tag", tag))
    assert get_once(client, url_of(fake)) == fake.photo_bytes_of(CARS[0], "z")


def test_an_opt_out_is_ignored_without_respect_robots(fake: FakeFlickr) -> None:
    fake.plan = always("", faults.NO_AI)
    with Client(ACQUIRE_PARAMS.model_copy(update={"respect_robots": False}), POLICY) as client:
        assert get_once(client, url_of(fake)) == fake.photo_bytes_of(CARS[0], "z")


# Request headers.


def test_the_user_agent_names_the_pipeline(fake: FakeFlickr, client: Client) -> None:
    get_once(client, url_of(fake))
    assert fake.requests[0].headers["User-Agent"].startswith(f"image-pipeline/{__version__} ")


def test_no_compression_is_requested(fake: FakeFlickr, client: Client) -> None:
    get_once(client, url_of(fake))
    assert fake.requests[0].headers["Accept-Encoding"] == "identity"


def test_passwords_of_netrc_are_not_sent(
    fake: FakeFlickr, client: Client, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = root / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\ndefault login me password secret")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(root))
    get_once(client, url_of(fake))
    client.library_session().get(url_of(fake))
    assert ["Authorization" in request.headers for request in fake.requests] == [False, False]


def test_cookies_are_not_sent_back(fake: FakeFlickr, client: Client) -> None:
    """Otherwise requests would depend on earlier responses."""
    fake.plan = once("", header("Set-Cookie", "seen=1; Path=/"))
    get_once(client, url_of(fake))
    get_once(client, url_of(fake))
    assert "Cookie" not in fake.requests[1].headers


# Redirects.


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(fake: FakeFlickr, client: Client, code: int) -> None:
    fake.plan = once("", redirect(url_of(fake, 1), code))
    assert get_once(client, url_of(fake)) == fake.photo_bytes_of(CARS[1], "z")


@pytest.mark.parametrize(
    "location",
    [
        "c.jpg",
        "../b/c.jpg",
        "//{host}/b/c.jpg",
        "http://{host}/b/c.jpg#part",
    ],
)
def test_a_redirect_may_be_relative(client: Client, location: str) -> None:
    with Wire() as wire:
        location = location.format(host=f"127.0.0.1:{wire.port}")
        wire.responses = (reply(b"", f"Location: {location}", status="302 Found"), reply(BODY))
        assert get_once(client, wire.url("/b/a.jpg")) == BODY
        assert wire.paths == ["/b/a.jpg", "/b/c.jpg"]


def test_a_response_has_the_url_after_redirects(fake: FakeFlickr, client: Client) -> None:
    fake.plan = once("", redirect(CARS[1].path("z")))
    with client.open(url_of(fake)) as response:
        assert response.url == url_of(fake, 1)


def test_a_redirect_may_be_in_utf_8(client: Client) -> None:
    """As browsers, curl and requests do."""
    redirection = reply(b"", "Location: /straße.jpg", status="302 Found")
    with Wire(redirection, reply(BODY)) as wire:
        get_once(client, wire.url())
        assert wire.paths[1] == "/stra%C3%9Fe.jpg"


@pytest.mark.parametrize(
    ("hops", "followed"),
    [(MAX_REDIRECTS, True), (MAX_REDIRECTS + 1, False)],
)
def test_the_number_of_redirects_is_limited(client: Client, hops: int, followed: bool) -> None:
    redirections = [
        reply(b"", f"Location: /{number}", status="302 Found") for number in range(hops)
    ]
    with Wire(*redirections, reply(BODY)) as wire:
        if followed:
            assert get_once(client, wire.url()) == BODY
        else:
            error = fetch_error(client, wire.url())
            assert (error.reason, error.transient) == (SkipReason.REFUSED, False)
            assert str(error).endswith("redirects more than 10 times")
        assert len(wire.heads) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/hostname",
        "data:image/png;base64,AAAA",
        "http://[::1",
        "http://h:x/",
    ],
)
def test_a_redirect_to_an_invalid_url_is_refused(
    fake: FakeFlickr, client: Client, location: str
) -> None:
    fake.plan = once("", redirect(location))
    error = fetch_error(client, url_of(fake))
    assert (error.reason, error.transient) == (SkipReason.BAD_ADDRESS, False)


@pytest.mark.parametrize("location", ["\xff", "\x00", "http://\x00/", "?", ""])
def test_a_malformed_redirect_is_a_fetch_error(client: Client, location: str) -> None:
    data = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    with Wire(data.encode("latin-1")) as wire, pytest.raises(FetchError):
        get(client, wire.url())


def test_a_redirect_counts_for_the_rate_limit(fake: FakeFlickr) -> None:
    fake.plan = once("", redirect(CARS[1].path("z")))
    with Client(ACQUIRE_PARAMS.model_copy(update={"per_host_per_second": 5}), POLICY) as client:
        start = time.monotonic()
        get_once(client, url_of(fake))
        assert time.monotonic() - start >= 0.2
    assert len(fake.requests) == 2


# Closing a client.


def test_closing_a_client_ends_waits(fake: FakeFlickr) -> None:
    with Client(ACQUIRE_PARAMS, POLICY) as client:
        client.limiter.pause("127.0.0.1", 60)
        freed = threading.Thread(target=_quietly, args=(lambda: get(client, url_of(fake)),))
        freed.start()
    freed.join(5)
    assert not freed.is_alive()


def test_a_closed_client_sends_no_requests(fake: FakeFlickr) -> None:
    """Threads that stop waiting must not send their requests, against the Retry-After."""
    with Client(ACQUIRE_PARAMS, POLICY) as client:
        client.limiter.pause("127.0.0.1", 60)
        work = threading.Thread(target=_quietly, args=(lambda: get(client, url_of(fake)),))
        work.start()
        time.sleep(0.05)  # until it waits
    work.join(5)
    assert len(fake.requests) == 0


def test_no_connection_is_left_open(fake: FakeFlickr) -> None:
    redirection = redirect("file:///etc")
    for fault in (None, faults.status(404), faults.ENDLESS, faults.SHORT, redirection):
        fake.plan = always("", fault) if fault else None
        with Client(ACQUIRE_PARAMS, POLICY) as client, suppress(FetchError):
            get_once(client, url_of(fake))
    gc.collect()  # an unclosed socket warns here, and warnings are errors


# Sessions for libraries.


def library_error(client: Client, url: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        client.library_session().post(url, data={"a": "b"})
    return caught.value


def test_a_library_gets_its_response(client: Client) -> None:
    with Wire(reply(b'{"stat": "ok"}', "Content-Type: application/json")) as wire:
        response = client.library_session().post(wire.url("/rest/"), data={"a": "b"})
        assert response.json() == {"stat": "ok"}
        assert wire.heads[0].startswith("POST /rest/ ")
    assert f"User-Agent: {HEADERS['User-Agent']}" in wire.heads[0]


@pytest.mark.parametrize(
    ("fault", "reason", "transient"),
    [
        (faults.status(429), SkipReason.UNREACHABLE, True),
        (faults.status(403), SkipReason.FORBIDDEN, False),
        (redirect("http://127.0.0.1:1/"), SkipReason.REFUSED, False),
        (faults.STALL, SkipReason.UNREACHABLE, True),
        (faults.DROP, SkipReason.UNREACHABLE, True),
        (faults.SHORT, SkipReason.UNREACHABLE, True),
    ],
)
def test_a_library_gets_the_same_errors(
    fake: FakeFlickr, hasty: Client, fault: faults.Fault, reason: SkipReason, transient: bool
) -> None:
    fake.plan = always("", fault)
    error = library_error(hasty, fake.serve("a", BODY))
    assert (error.reason, error.transient) == (reason, transient)


def test_a_bomb_is_too_large_for_a_library(client: Client) -> None:
    with Wire(compressed(gzip.compress(bytes(MAX_API_BYTES + 1)))) as wire:
        assert library_error(client, wire.url()).reason is SkipReason.TOO_LARGE


def test_the_rate_limit_holds_for_a_library(fake: FakeFlickr) -> None:
    url = fake.serve("a", BODY)
    with Client(ACQUIRE_PARAMS.model_copy(update={"per_host_per_second": 5}), POLICY) as client:
        session = client.library_session()
        start = time.monotonic()
        session.get(url)
        session.get(url)
        assert time.monotonic() - start >= 0.2


def test_a_library_may_request_a_private_address(fake: FakeFlickr) -> None:
    url = fake.serve("a", BODY)
    with Client(ACQUIRE_PARAMS.model_copy(update={"allow_private": False}), POLICY) as client:
        assert client.library_session().get(url).content == BODY
