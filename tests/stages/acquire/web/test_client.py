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
from pipeline.params import AcquireParams
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web import client as http
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.fetch_error import FetchError
from pipeline.stages.acquire.web.rate_limit import Policy
from tests.fakes import faults
from tests.fakes.faults import always, cut, header, once, redirect, throttled
from tests.fakes.flickr import FakeFlickr
from tests.fakes.photos import photos
from tests.fakes.wire import Wire, chunked, reply

CARS = photos("car", 4)
BODY = bytes(range(256)) * 20
PARAMS = AcquireParams(
    workers=4,
    per_host_per_second=0,
    max_missing_fraction=0,
    respect_robots=True,
    allow_private=True,
    max_gigabytes=1,
    max_file_megabytes=1,
)
POLICY = Policy(connect_timeout=5, read_timeout=5, attempts=3, pause=0.01)
HASTY = Policy(connect_timeout=0.3, read_timeout=0.3, attempts=3, pause=0.01)
"""For servers that are slow on purpose; the others may be so because the machine is."""
MOST = 100_000  # bytes


pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def fake() -> Iterator[FakeFlickr]:
    with FakeFlickr(CARS) as fake:
        yield fake


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(PARAMS, POLICY) as client:
        yield client


@pytest.fixture
def hasty() -> Iterator[Client]:
    with Client(PARAMS, HASTY) as client:
        yield client


def once_from(client: Client, url: str, most: float = MOST) -> bytes:
    with client.open(url) as answer:
        return b"".join(answer.blocks(most))


def get(client: Client, url: str, most: float = MOST) -> bytes:
    return client.retry(lambda: once_from(client, url, most))


def failure(client: Client, url: str, most: float = MOST) -> FetchError:
    """Of a single attempt."""
    with pytest.raises(FetchError) as caught:
        once_from(client, url, most)
    return caught.value


def in_time(seconds: float, work: Callable[[], object]) -> bool:
    """Whether some work ends in time, whatever its end; it goes on in a thread if not."""
    thread = threading.Thread(target=lambda: _quietly(work), daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def _quietly(work: Callable[[], object]) -> None:
    with suppress(Exception):
        work()


def address(fake: FakeFlickr, number: int = 0) -> str:
    return fake.url(CARS[number].path("z"))


# What servers answer.


def test_an_answer_is_read_whole(fake: FakeFlickr, client: Client) -> None:
    assert get(client, address(fake)) == fake.photo_bytes_of(CARS[0], "z")


def test_an_answer_without_a_length_is_read_to_its_end(client: Client) -> None:
    said = b"HTTP/1.1 200 OK\r\n\r\n" + BODY
    with Wire(said) as wire:
        assert get(client, wire.url()) == BODY


def test_an_answer_in_chunks_is_read_whole(client: Client) -> None:
    said = reply(chunked(BODY[:7], BODY[7:]), "Transfer-Encoding: chunked")
    with Wire(said) as wire:
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
        ("402 Payment Required", SkipReason.REFUSED),
        ("405 Method Not Allowed", SkipReason.REFUSED),
        ("418 I'm a teapot", SkipReason.REFUSED),
        ("431 Too Large", SkipReason.REFUSED),
        ("501 Not Implemented", SkipReason.REFUSED),
        ("505 Version", SkipReason.REFUSED),
        ("999 Denied", SkipReason.REFUSED),
        ("201 Created", SkipReason.REFUSED),
        ("204 No Content", SkipReason.REFUSED),
        ("206 Partial Content", SkipReason.REFUSED),
        ("300 Choices", SkipReason.REFUSED),
        ("302 Found", SkipReason.REFUSED),
        ("304 Not Modified", SkipReason.REFUSED),
    ],
)
def test_an_answer_that_nothing_will_mend_is_asked_for_once(
    client: Client, status: str, reason: SkipReason
) -> None:
    with Wire(reply(b"", status=status)) as wire:
        with pytest.raises(FetchError) as caught:
            get(client, wire.url())
        assert len(wire.heads) == 1
    assert (caught.value.reason, caught.value.transient) == (reason, False)
    assert caught.value.status == int(status[:3])


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524])
def test_an_answer_that_may_pass_is_asked_for_again(client: Client, code: int) -> None:
    with Wire(reply(b"no", status=f"{code} Some Words"), reply(BODY)) as wire:
        assert get(client, wire.url()) == BODY
        assert len(wire.heads) == 2


def test_a_refusal_says_the_address_and_the_answer(client: Client) -> None:
    with Wire(reply(b"", status="404 Not Here")) as wire:
        assert (
            str(failure(client, wire.url("/a.jpg"))) == f"{wire.url('/a.jpg')} answers 404 Not Here"
        )


def test_a_refusal_without_words_says_its_number(client: Client) -> None:
    with Wire(b"HTTP/1.1 404\r\n\r\n") as wire:
        assert str(failure(client, wire.url())) == f"{wire.url()} answers 404"


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


def test_each_pause_is_longer_than_the_one_before(fake: FakeFlickr) -> None:
    fake.plan = always("", faults.status(503))
    policy = Policy(connect_timeout=0.3, read_timeout=0.3, attempts=4, pause=0.05, max_pause=0.1)
    with Client(PARAMS, policy) as client, pytest.raises(FetchError):
        get(client, address(fake))
    moments = [request.at for request in fake.requests]
    pauses = [after - before for before, after in pairwise(moments)]
    lower = [0.025, 0.05, 0.05]  # half of what is doubled each time, up to the longest
    assert all(pause >= least for pause, least in zip(pauses, lower, strict=True))


# How long they want to be left alone.


def test_a_host_that_says_for_how_long_is_left_alone_by_all(
    fake: FakeFlickr, client: Client
) -> None:
    fake.plan = once("", throttled(1))
    failed = failure(client, address(fake))
    assert (failed.reason, failed.transient, failed.retry_after) == (
        SkipReason.UNREACHABLE,
        True,
        1,
    )
    assert once_from(client, address(fake, 1)) == fake.photo_bytes_of(CARS[1], "z")
    assert fake.requests[1].at - fake.requests[0].at >= 0.95


def test_another_host_is_not_left_alone(fake: FakeFlickr, client: Client) -> None:
    fake.plan = once("", throttled(60))
    failure(client, address(fake))
    start = time.monotonic()
    once_from(client, address(fake).replace("127.0.0.1", "localhost"))
    assert time.monotonic() - start < 5


def test_how_long_may_be_said_as_a_date(fake: FakeFlickr, client: Client) -> None:
    fake.plan = once("", throttled(datetime.now(UTC) + timedelta(seconds=60)))
    assert 55 < (failure(client, address(fake)).retry_after or 0) <= 60


def test_a_date_that_has_passed_is_no_pause(fake: FakeFlickr, client: Client) -> None:
    fake.plan = once("", throttled(datetime.now(UTC) - timedelta(days=1)))
    assert get(client, address(fake)) == fake.photo_bytes_of(CARS[0], "z")


def test_the_pause_that_a_server_asks_for_is_kept_between_attempts(
    fake: FakeFlickr, client: Client
) -> None:
    fake.plan = once("", throttled(datetime.now(UTC) + timedelta(seconds=2)))
    get(client, address(fake))
    assert fake.requests[1].at - fake.requests[0].at >= 0.9


def test_too_long_a_pause_is_not_waited_for(fake: FakeFlickr) -> None:
    fake.plan = once("", throttled(31))
    start = time.monotonic()
    with Client(PARAMS, Policy(pause=0.01, max_pause=30)) as client:
        with pytest.raises(FetchError):
            get(client, address(fake))
        with pytest.raises(FetchError, match="allows no request for 3"):
            once_from(client, address(fake, 1))
    assert time.monotonic() - start < 5
    assert len(fake.requests) == 1, "who asks for silence is asked nothing more"


@pytest.mark.parametrize(
    "said",
    [
        "",
        "soon",
        "-1",
        "1.5",
        "1, 2",
        "9" * 5000,
        "Fri, 31 Dec 99999 23:59:59 GMT",
        "Fri, 99 Foo 2030 99:99:99 GMT",
        "Fri, 31 Dec 1999",
        "\xff",
    ],
    ids=lambda said: said[:12],
)
def test_a_pause_that_is_none_is_passed_over(client: Client, said: str) -> None:
    with Wire(reply(b"", f"Retry-After: {said}", status="429 Slowly"), reply(BODY)) as wire:
        assert get(client, wire.url()) == BODY


def test_so_many_requests_a_second_are_made_and_no_more(fake: FakeFlickr) -> None:
    limits = PARAMS.model_copy(update={"per_host_per_second": 20})
    with Client(limits, POLICY) as client:
        threads = [
            threading.Thread(target=once_from, args=(client, address(fake))) for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert fake.requests[-1].at - fake.requests[0].at >= 9 / 20 - 0.05


# What goes wrong on the way.


@pytest.mark.parametrize(
    ("fault", "said"),
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
def test_an_answer_that_breaks_off_may_be_whole_the_next_time(
    fake: FakeFlickr, client: Client, hasty: Client, fault: faults.Fault, said: str
) -> None:
    fake.plan = once("", fault)
    failed = failure(hasty, address(fake))
    assert (failed.reason, failed.transient) == (SkipReason.UNREACHABLE, True)
    assert str(failed) == f"{address(fake)} {said}"
    assert get(client, address(fake)) == fake.photo_bytes_of(CARS[0], "z")


def test_silence_in_the_middle_of_a_body_is_not_waited_out(hasty: Client) -> None:
    def halting() -> Iterator[bytes]:
        yield reply(BODY)[:-100]
        wire.ended.wait(10)

    with Wire() as wire:
        wire.responses = (halting,)
        assert str(failure(hasty, wire.url())) == f"{wire.url()} does not answer in time"


def test_nobody_listens(client: Client) -> None:
    with Wire() as wire:
        url = wire.url()
    failed = failure(client, url)
    assert (failed.reason, failed.transient) == (SkipReason.UNREACHABLE, True)
    assert str(failed) == f"{url} cannot be reached"


def test_a_name_that_nobody_has(client: Client) -> None:
    failed = failure(client, "http://nowhere.invalid/")
    assert (failed.reason, failed.transient) == (SkipReason.UNREACHABLE, True)


@pytest.mark.parametrize("fault", [faults.ENDLESS, faults.CHUNKS], ids=["endless", "chunks"])
def test_a_body_without_an_end_is_left_at_the_limit(
    fake: FakeFlickr, client: Client, fault: faults.Fault
) -> None:
    fake.plan = always("", fault)
    failed = failure(client, address(fake))
    assert (failed.reason, failed.transient) == (SkipReason.TOO_LARGE, False)
    assert str(failed) == f"{address(fake)} is larger than {MOST} bytes"


@pytest.mark.parametrize(("most", "fits"), [(len(BODY), True), (len(BODY) - 1, False)])
@pytest.mark.parametrize("length", [f"Content-Length: {len(BODY)}", "Connection: close"])
def test_a_body_may_be_as_large_as_the_limit(
    client: Client, length: str, most: int, fits: bool
) -> None:
    said = f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode() + BODY
    with Wire(said) as wire:
        if fits:
            assert once_from(client, wire.url(), most) == BODY
        else:
            assert failure(client, wire.url(), most).reason is SkipReason.TOO_LARGE


def test_a_body_that_is_said_to_be_too_large_is_not_read(client: Client) -> None:
    with Wire(reply(b"", f"Content-Length: {MOST + 1}")) as wire:
        assert failure(client, wire.url()).reason is SkipReason.TOO_LARGE


@pytest.mark.parametrize(
    "length",
    ["five", "-5", "5.0", "0x5", "", "+", "9" * 5000, "²", "1e3"],
    ids=lambda length: length[:8] or "empty",
)
def test_a_length_that_is_no_number_is_passed_over(client: Client, length: str) -> None:
    said = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    with Wire(said.encode("latin-1") + BODY) as wire:
        assert once_from(client, wire.url()) == BODY


def test_a_length_that_promises_too_much_is_a_broken_answer(client: Client) -> None:
    with Wire(reply(BODY, f"Content-Length: {len(BODY) + 1}")) as wire:
        failed = failure(client, wire.url())
    assert (failed.reason, failed.transient) == (SkipReason.UNREACHABLE, True)


def test_nothing_behind_the_length_is_read(client: Client) -> None:
    with Wire(reply(BODY + b"more", f"Content-Length: {len(BODY)}")) as wire:
        assert once_from(client, wire.url()) == BODY


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\r\n\r\n",
        b"photo",
        b"\xff\xd8\xff\xe0\x00\x10JFIF",
        b"<html>hello</html>",
        b"HTTP/1.1",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 -200 OK\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"220 ftp ready\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"\0" * 1000,
        b"A" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nphoto",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 5000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nphoto",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nphoto\r\n",
    ],
)
def test_what_is_no_answer_is_a_failure(client: Client, said: bytes) -> None:
    with Wire(said) as wire:
        failed = failure(client, wire.url())
    assert (failed.reason, failed.transient) == (SkipReason.UNREACHABLE, True)


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
def test_too_many_or_too_long_headers_are_a_failure(client: Client, headers: list[str]) -> None:
    with Wire(reply(BODY, *headers)) as wire:
        failed = failure(client, wire.url())
    assert (failed.reason, failed.transient) == (SkipReason.UNREACHABLE, True)


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
@pytest.mark.parametrize("value", ["\xff\xfe", "", '"', "a=b; c, d;;;=", "\x1b[2J", "%", "☃"])
def test_a_header_that_says_nonsense_is_an_answer_or_a_failure(
    client: Client, name: str, value: str
) -> None:
    with Wire(reply(BODY, f"{name}: {value}")) as wire, suppress(FetchError):
        once_from(client, wire.url())


class TestAnswersWithoutAnEnd:
    """In each, every byte comes in time, so that no silence ever ends the waiting."""

    def ends(self, said: Callable[[Wire], Iterator[bytes]]) -> bool:
        policy = Policy(connect_timeout=0.2, read_timeout=0.2)
        with Client(PARAMS, policy) as client, Wire() as wire:
            wire.responses = (lambda: said(wire),)
            return in_time(2.5, lambda: once_from(client, wire.url()))

    def test_a_first_line_that_drips(self) -> None:
        def said(wire: Wire) -> Iterator[bytes]:
            yield b"HTTP/1.1 200 O"
            while not wire.ended.wait(0.02):
                yield b"K"

        assert self.ends(said)

    def test_headers_that_drip(self) -> None:
        def said(wire: Wire) -> Iterator[bytes]:
            yield b"HTTP/1.1 200 OK\r\nX-Header: "
            while not wire.ended.wait(0.02):
                yield b"y"

        assert self.ends(said)

    def test_headers_that_drip_leave_no_connection_open(self) -> None:
        def said() -> Iterator[bytes]:
            yield b"HTTP/1.1 200 OK\r\n"
            while not wire.ended.wait(0.02):
                yield b"X-Header: y\r\n"

        with (
            Client(PARAMS, Policy(connect_timeout=0.2, read_timeout=0.2)) as client,
            Wire() as wire,
        ):
            wire.responses = (said,)
            assert str(failure(client, wire.url())) == f"{wire.url()} does not answer in time"
        gc.collect()  # a socket that nobody closed warns here, and warnings are errors

    def test_one_more_moment_again_and_again(self) -> None:
        def said(wire: Wire) -> Iterator[bytes]:
            while not wire.ended.wait(0.001):
                yield b"HTTP/1.1 100 Continue\r\n\r\n"

        assert self.ends(said)

    def test_trailers_after_the_last_chunk(self) -> None:
        def said(wire: Wire) -> Iterator[bytes]:
            yield reply(chunked(BODY)[:-2], "Transfer-Encoding: chunked")
            while not wire.ended.wait(0.001):
                yield b"X-Trailer: y\r\n"

        assert self.ends(said)

    def test_the_length_of_a_chunk_that_drips(self) -> None:
        def said(wire: Wire) -> Iterator[bytes]:
            yield reply(b"", "Transfer-Encoding: chunked")
            while not wire.ended.wait(0.02):
                yield b"0"

        assert self.ends(said)

    def test_the_body_of_a_redirect(self) -> None:
        def said(wire: Wire) -> Iterator[bytes]:
            yield b"HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\n\r\n"
            while not wire.ended.wait(0.001):
                yield bytes(1000)

        assert self.ends(said)

    def test_the_body_of_a_refusal(self) -> None:
        def said(wire: Wire) -> Iterator[bytes]:
            yield b"HTTP/1.1 404 Not Found\r\n\r\n"
            while not wire.ended.wait(0.001):
                yield bytes(1000)

        assert self.ends(said)

    def test_a_packed_body_that_never_unpacks_to_anything(self) -> None:
        def said(wire: Wire) -> Iterator[bytes]:
            yield reply(b"", "Content-Encoding: gzip", "Transfer-Encoding: chunked")
            yield b"a\r\n" + gzip.compress(b"")[:10] + b"\r\n"
            while not wire.ended.wait(0.001):
                yield b"5\r\n\x00\x00\x00\xff\xff\r\n"  # an empty block, of which there may be more

        assert self.ends(said)


# Bodies that are packed, though nobody asked for that.


def packed(data: bytes, encoding: str = "gzip") -> bytes:
    return reply(data, f"Content-Encoding: {encoding}")


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_a_body_that_was_packed_for_the_way_is_whole(
    client: Client, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    with Wire(packed(pack(BODY), encoding)) as wire:
        assert once_from(client, wire.url()) == BODY


def test_a_packed_body_that_comes_byte_by_byte_is_whole(client: Client) -> None:
    def slowly() -> Iterator[bytes]:
        said = packed(gzip.compress(b"photograph"))
        yield said[:-30]
        for byte in said[-30:]:
            yield bytes([byte])
            time.sleep(0.002)

    with Wire(slowly) as wire:
        assert once_from(client, wire.url()) == b"photograph"


def test_a_packed_body_that_is_cut_off_is_a_broken_answer(client: Client) -> None:
    data = gzip.compress(BODY)
    said = reply(data[:-20], "Content-Encoding: gzip", f"Content-Length: {len(data)}")
    with Wire(said) as wire:
        failed = failure(client, wire.url())
    assert (failed.reason, failed.transient) == (SkipReason.UNREACHABLE, True)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_is_said_to_be_packed_and_is_not_is_a_broken_answer(
    client: Client, encoding: str
) -> None:
    with Wire(packed(BODY, encoding)) as wire:
        failed = failure(client, wire.url())
    assert (failed.reason, failed.transient) == (SkipReason.UNREACHABLE, True)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_packed_bomb_is_left_at_the_limit_and_not_held_in_memory(
    client: Client, layers: int
) -> None:
    bomb = gzip.compress(bytes(2**26))
    for _ in range(layers - 1):
        bomb = gzip.compress(bomb)
    encoding = ", ".join(["gzip"] * layers)
    with Wire(packed(bomb, encoding)) as wire:
        tracemalloc.start()
        try:
            failed = failure(client, wire.url(), 10e6)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert failed.reason is SkipReason.TOO_LARGE
    assert peak < 10e6 + 2**23


def test_many_layers_of_packing_are_refused(client: Client) -> None:
    with Wire(packed(BODY, ", ".join(["gzip"] * 50))) as wire:
        assert failure(client, wire.url()).reason is SkipReason.UNREACHABLE


# What the owner does not want.


@pytest.mark.parametrize(
    "tag",
    [
        "noai",
        "noimageai",
        "NoAI",
        " noai ",
        "noindex, noai",
        "noai,noimageai",
        "noarchive,noimageai,nofollow",
        "unavailable_after: 25 Jun 2030 15:00:00 PST, noai",
    ],
)
def test_a_photograph_that_wants_no_machine_learning_is_left(
    fake: FakeFlickr, client: Client, tag: str
) -> None:
    fake.plan = once("", header("X-Robots-Tag", tag))
    failed = failure(client, address(fake))
    assert (failed.reason, failed.transient) == (SkipReason.ROBOTS, False)
    assert str(failed).endswith("leave it out, or set acquire.respect_robots=false")


def test_it_may_say_so_in_the_second_of_two_headers(client: Client) -> None:
    tags = ("X-Robots-Tag: googlebot: noindex", "x-robots-tag: noai")
    with Wire(reply(BODY, *tags)) as wire:
        assert failure(client, wire.url()).reason is SkipReason.ROBOTS


@pytest.mark.parametrize(
    "tag", ["", "all", "noindex", "noindex, nofollow", "googlebot: noai", "noaix", "no ai"]
)
def test_a_photograph_that_wants_something_else_is_read(
    fake: FakeFlickr, client: Client, tag: str
) -> None:
    fake.plan = always("", header("X-Robots-Tag", tag))
    assert once_from(client, address(fake)) == fake.photo_bytes_of(CARS[0], "z")


def test_what_the_owner_wants_may_be_passed_over(fake: FakeFlickr) -> None:
    fake.plan = always("", faults.NO_AI)
    with Client(PARAMS.model_copy(update={"respect_robots": False}), POLICY) as client:
        assert once_from(client, address(fake)) == fake.photo_bytes_of(CARS[0], "z")


# What is said of ourselves.


def test_the_server_is_told_who_asks(fake: FakeFlickr, client: Client) -> None:
    once_from(client, address(fake))
    assert fake.requests[0].headers["User-Agent"].startswith(f"image-pipeline/{__version__} ")


def test_nothing_is_asked_to_be_packed(fake: FakeFlickr, client: Client) -> None:
    once_from(client, address(fake))
    assert fake.requests[0].headers["Accept-Encoding"] == "identity"


def test_the_passwords_of_this_user_stay_here(
    fake: FakeFlickr, client: Client, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = root / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\ndefault login me password secret")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(root))
    once_from(client, address(fake))
    client.library_session().get(address(fake))
    assert ["Authorization" in request.headers for request in fake.requests] == [False, False]


def test_no_answer_leaves_a_cookie_for_the_next_request(fake: FakeFlickr, client: Client) -> None:
    """Else what one server says changes what the next request is, thread by thread."""
    fake.plan = once("", header("Set-Cookie", "seen=1; Path=/"))
    once_from(client, address(fake))
    once_from(client, address(fake))
    assert "Cookie" not in fake.requests[1].headers


# Where an answer sends us.


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(fake: FakeFlickr, client: Client, code: int) -> None:
    fake.plan = once("", redirect(address(fake, 1), code))
    assert once_from(client, address(fake)) == fake.photo_bytes_of(CARS[1], "z")


@pytest.mark.parametrize(
    "location",
    [
        "/b/c.jpg",
        "c.jpg",
        "../b/c.jpg",
        "./c.jpg",
        "//{host}/b/c.jpg",
        "http://{host}/b/c.jpg#part",
    ],
)
def test_a_redirect_may_be_relative(client: Client, location: str) -> None:
    with Wire() as wire:
        location = location.format(host=f"127.0.0.1:{wire.port}")
        wire.responses = (reply(b"", f"Location: {location}", status="302 Found"), reply(BODY))
        assert once_from(client, wire.url("/b/a.jpg")) == BODY
        assert wire.paths == ["/b/a.jpg", "/b/c.jpg"]


def test_an_answer_tells_where_it_came_from(fake: FakeFlickr, client: Client) -> None:
    fake.plan = once("", redirect(CARS[1].path("z")))
    with client.open(address(fake)) as answer:
        assert answer.url == address(fake, 1)


def test_a_redirect_may_be_written_in_utf_8(client: Client) -> None:
    """As servers send it, and as browsers, curl and requests itself understand it."""
    onward = reply(b"", "Location: /straße.jpg", status="302 Found")
    with Wire(onward, reply(BODY)) as wire:
        once_from(client, wire.url())
        assert wire.paths[1] == "/stra%C3%9Fe.jpg"


@pytest.mark.parametrize(
    ("hops", "followed"), [(http.MAX_REDIRECTS, True), (http.MAX_REDIRECTS + 1, False)]
)
def test_so_many_redirects_are_followed(client: Client, hops: int, followed: bool) -> None:
    onward = [reply(b"", f"Location: /{number}", status="302 Found") for number in range(hops)]
    with Wire(*onward, reply(BODY)) as wire:
        if followed:
            assert once_from(client, wire.url()) == BODY
        else:
            failed = failure(client, wire.url())
            assert (failed.reason, failed.transient) == (SkipReason.REFUSED, False)
            assert str(failed).endswith("redirects more than 10 times")
        assert len(wire.heads) == http.MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/hostname",
        "ftp://127.0.0.1/a",
        "data:image/png;base64,AAAA",
        "mailto:a@b.c",
        "http://[::1",
        "http://h:x/",
        "http://h:0/",
        "http://a..b/",
    ],
)
def test_a_redirect_to_what_cannot_be_asked_is_refused(
    fake: FakeFlickr, client: Client, location: str
) -> None:
    fake.plan = once("", redirect(location))
    failed = failure(client, address(fake))
    assert (failed.reason, failed.transient) == (SkipReason.BAD_ADDRESS, False)


@pytest.mark.parametrize("location", ["\xff", "\x00", "http://\x00/", "h\x1bttp://a", "?", ""])
def test_a_redirect_to_nonsense_is_an_answer_or_a_failure(client: Client, location: str) -> None:
    said = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    with Wire(said.encode("latin-1")) as wire, pytest.raises(FetchError):
        get(client, wire.url())


def test_each_host_of_a_redirect_is_paced(fake: FakeFlickr) -> None:
    fake.plan = once("", redirect(CARS[1].path("z")))
    with Client(PARAMS.model_copy(update={"per_host_per_second": 5}), POLICY) as client:
        once_from(client, address(fake))
    assert fake.requests[1].at - fake.requests[0].at >= 0.19


# The end of a client.


def test_leaving_a_client_frees_those_who_wait_in_it(fake: FakeFlickr) -> None:
    with Client(PARAMS, POLICY) as client:
        client.limiter.pause("127.0.0.1", 60)
        freed = threading.Thread(target=_quietly, args=(lambda: get(client, address(fake)),))
        freed.start()
    freed.join(5)
    assert not freed.is_alive()


def test_nobody_is_asked_any_more_once_a_client_is_left(fake: FakeFlickr) -> None:
    """Those who are freed must not all ask at once, least of all the host that wanted silence."""
    with Client(PARAMS, POLICY) as client:
        client.limiter.pause("127.0.0.1", 60)
        work = threading.Thread(target=_quietly, args=(lambda: get(client, address(fake)),))
        work.start()
        time.sleep(0.05)  # until it waits
    work.join(5)
    assert len(fake.requests) == 0


@pytest.mark.parametrize(
    "fault",
    [None, faults.status(404), faults.ENDLESS, faults.SHORT, redirect("file:///etc")],
    ids=["whole", "refused", "endless", "short", "redirect"],
)
def test_no_connection_is_left_open(fake: FakeFlickr, fault: faults.Fault | None) -> None:
    fake.plan = always("", fault) if fault else None
    with Client(PARAMS, POLICY) as client, suppress(FetchError):
        once_from(client, address(fake))
    gc.collect()  # a socket that nobody closed warns here, and warnings are errors


# The session that a library asks with.


def library_failure(client: Client, url: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        client.library_session().post(url, data={"a": "b"})
    return caught.value


def test_a_library_asks_as_ever(client: Client) -> None:
    with Wire(reply(b'{"stat": "ok"}', "Content-Type: application/json")) as wire:
        response = client.library_session().post(wire.url("/rest/"), data={"a": "b"})
        assert response.json() == {"stat": "ok"}
        assert wire.heads[0].startswith("POST /rest/ ")
    assert f"User-Agent: {http.HEADERS['User-Agent']}" in wire.heads[0]


@pytest.mark.parametrize(
    ("fault", "reason", "transient"),
    [
        (faults.status(429), SkipReason.UNREACHABLE, True),
        (faults.status(500), SkipReason.UNREACHABLE, True),
        (faults.status(403), SkipReason.FORBIDDEN, False),
        (faults.status(404), SkipReason.GONE, False),
        (redirect("http://127.0.0.1:1/"), SkipReason.REFUSED, False),
        (faults.STALL, SkipReason.UNREACHABLE, True),
        (faults.DROP, SkipReason.UNREACHABLE, True),
        (faults.RESET, SkipReason.UNREACHABLE, True),
        (faults.SHORT, SkipReason.UNREACHABLE, True),
        (faults.DRIP, SkipReason.UNREACHABLE, True),
    ],
)
def test_a_library_meets_the_same_failures(
    fake: FakeFlickr, hasty: Client, fault: faults.Fault, reason: SkipReason, transient: bool
) -> None:
    fake.plan = always("", fault)
    failed = library_failure(hasty, fake.serve("a", BODY))
    assert (failed.reason, failed.transient) == (reason, transient)


def test_a_library_is_not_given_a_bomb(client: Client) -> None:
    with Wire(packed(gzip.compress(bytes(http.MAX_API_BYTES + 1)))) as wire:
        assert library_failure(client, wire.url()).reason is SkipReason.TOO_LARGE


def test_a_library_is_paced(fake: FakeFlickr) -> None:
    url = fake.serve("a", BODY)
    with Client(PARAMS.model_copy(update={"per_host_per_second": 5}), POLICY) as client:
        session = client.library_session()
        session.get(url)
        session.get(url)
    assert fake.requests[1].at - fake.requests[0].at >= 0.19


def test_a_library_may_ask_a_private_address(fake: FakeFlickr) -> None:
    url = fake.serve("a", BODY)
    with Client(PARAMS.model_copy(update={"allow_private": False}), POLICY) as client:
        assert client.library_session().get(url).content == BODY
