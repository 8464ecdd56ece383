"""What a client connects to where private addresses are not allowed."""

import gc
import socket
from pathlib import Path

import pytest

from pipeline.params import AcquireParams
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.fetch_error import FetchError
from pipeline.stages.acquire.web.rate_limit import Policy
from tests.fakes.wire import Wire, reply

CLOSED = AcquireParams(
    workers=4,
    per_host_per_second=0,
    max_missing_fraction=0,
    respect_robots=True,
    allow_private=False,
    max_gigabytes=1,
    max_file_megabytes=1,
)
OPEN = CLOSED.model_copy(update={"allow_private": True})
POLICY = Policy(connect_timeout=2, read_timeout=5, attempts=2, pause=0.01)
PUBLIC = "http://198.41.0.4/photo.jpg"  # only ever asked of a proxy of ours


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path


def get(url: str, params: AcquireParams = CLOSED) -> bytes:
    def once() -> bytes:
        with client.open(url) as answer:
            return b"".join(answer.blocks(1e6))

    with Client(params, POLICY) as client:
        return client.retry(once)


def failure(url: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        get(url)
    return caught.value


def through(wire: Wire, monkeypatch: pytest.MonkeyPatch, *, past: str = "") -> None:
    """Make `wire` everybody's proxy, but for the hosts `past`."""
    monkeypatch.setenv("http_proxy", wire.url())
    monkeypatch.setenv("https_proxy", wire.url())
    monkeypatch.setenv("no_proxy", past)
    monkeypatch.setenv("NO_PROXY", past)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_private_address_hears_nothing(host: str, scheme: str) -> None:
    with Wire() as wire:
        url = f"{scheme}://{host}:{wire.port}/photo.jpg"
        failed = failure(url)
    assert (failed.reason, wire.received) == (SkipReason.PRIVATE_ADDRESS, b"")


def test_a_private_address_is_told_with_what_to_do() -> None:
    with Wire() as wire:
        url = wire.url("/photo.jpg", "localhost")
        assert str(failure(url)) == (
            f"{url} leads to the private address 127.0.0.1: set acquire.allow_private=true if that "
            "is meant"
        )


def test_a_private_address_is_tried_once() -> None:
    with Wire() as wire:
        assert not failure(wire.url()).transient
    assert wire.connected <= 1


def test_a_private_address_where_nobody_listens_is_called_private_too() -> None:
    """What is refused does not depend on what runs there; else a list could scan a network."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert failure(f"http://127.0.0.1:{port}/").reason is SkipReason.PRIVATE_ADDRESS


def test_a_private_address_may_be_allowed() -> None:
    with Wire(reply(b"photo")) as wire:
        assert get(wire.url(), OPEN) == b"photo"


def test_a_refused_connection_is_closed() -> None:
    with Wire() as wire:
        failure(wire.url())
        gc.collect()  # a socket that nobody closed warns here, and warnings are errors


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_redirect_to_a_private_address_is_refused_before_it_hears_anything(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wire() as private:
        onward = f"Location: {private.url('/secret', host)}"
        with Wire(reply(b"", onward, status="302 Found")) as proxy:
            through(proxy, monkeypatch, past="127.0.0.1,localhost")
            failed = failure(PUBLIC)
            assert proxy.paths == [PUBLIC]
    assert (failed.reason, private.received) == (SkipReason.PRIVATE_ADDRESS, b"")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "10.0.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "2130706433",
        "127.1",
        "[::1]",
        "[fd00::1]",
        "[::ffff:10.0.0.1]",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_is_not_asked_for_a_private_address(
    host: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wire() as proxy:
        through(proxy, monkeypatch)
        failed = failure(f"{scheme}://{host}:1/")
    assert (failed.reason, proxy.received) == (SkipReason.PRIVATE_ADDRESS, b"")


def test_a_proxy_is_not_asked_for_a_private_address_that_a_redirect_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Wire(reply(b"", "Location: http://10.0.0.1/", status="302 Found")) as proxy:
        through(proxy, monkeypatch)
        assert failure(PUBLIC).reason is SkipReason.PRIVATE_ADDRESS
    assert proxy.paths == [PUBLIC]


def test_a_proxy_is_not_asked_for_an_address_that_is_read_in_two_ways(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Wire() as proxy:
        through(proxy, monkeypatch)
        with pytest.raises(FetchError):
            get("http://127.0.0.1\\@198.41.0.4/")
    assert proxy.received == b""


@pytest.mark.parametrize("url", [PUBLIC, "http://[2001:503:ba3e::2:30]/photo.jpg"])
@pytest.mark.parametrize("past", ["", "intranet.example,10.0.0.0/8"])
def test_a_proxy_is_asked_for_the_internet(
    url: str, past: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wire(reply(b"photo")) as proxy:
        through(proxy, monkeypatch, past=past)
        assert get(url) == b"photo"
    assert proxy.paths == [url]
