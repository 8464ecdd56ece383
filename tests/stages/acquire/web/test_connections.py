"""A client without acquire.allow_private."""

import gc
import socket
from pathlib import Path

import pytest

from pipeline.params import AcquireParams
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.fetch_error import FetchError
from pipeline.stages.acquire.web.retry import Policy
from tests.builders.params import ACQUIRE_PARAMS
from tests.fakes.wire import Wire, reply

OPEN = ACQUIRE_PARAMS
CLOSED = OPEN.model_copy(update={"allow_private": False})
POLICY = Policy(connect_timeout=2, read_timeout=5, attempts=2, pause=0.01)
PUBLIC = "http://198.41.0.4/photo.jpg"  # only ever requested from a fake proxy


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
        with client.open(url) as response:
            return b"".join(response.blocks(1e6))

    with Client(params, POLICY) as client:
        return client.retry(once)


def fetch_error(url: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        get(url)
    return caught.value


def use_proxy(wire: Wire, monkeypatch: pytest.MonkeyPatch, *, no_proxy: str = "") -> None:
    """Make `wire` the proxy for all hosts but `no_proxy`."""
    monkeypatch.setenv("http_proxy", wire.url())
    monkeypatch.setenv("https_proxy", wire.url())
    monkeypatch.setenv("no_proxy", no_proxy)
    monkeypatch.setenv("NO_PROXY", no_proxy)


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
def test_a_private_address_receives_nothing(host: str) -> None:
    for scheme in ("http", "https"):
        with Wire() as wire:
            error = fetch_error(f"{scheme}://{host}:{wire.port}/photo.jpg")
        assert (error.reason, wire.received) == (SkipReason.PRIVATE_ADDRESS, b"")


def test_the_error_for_a_private_address_has_advice() -> None:
    with Wire() as wire:
        url = wire.url("/photo.jpg", "localhost")
        assert str(fetch_error(url)) == (
            f"{url} leads to the private address 127.0.0.1: set acquire.allow_private=true if that "
            "is meant"
        )


def test_a_private_address_is_not_retried() -> None:
    with Wire() as wire:
        assert not fetch_error(wire.url()).transient
    assert wire.connected <= 1


def test_a_private_address_without_a_server_has_the_same_error() -> None:
    """Otherwise a list of URLs could scan a network."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert fetch_error(f"http://127.0.0.1:{port}/").reason is SkipReason.PRIVATE_ADDRESS


def test_a_private_address_may_be_allowed() -> None:
    with Wire(reply(b"photo")) as wire:
        assert get(wire.url(), OPEN) == b"photo"


def test_a_refused_connection_is_closed() -> None:
    with Wire() as wire:
        fetch_error(wire.url())
        gc.collect()  # an unclosed socket warns here, and warnings are errors


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_redirect_to_a_private_address_is_refused(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wire() as private:
        location = f"Location: {private.url('/secret', host)}"
        with Wire(reply(b"", location, status="302 Found")) as proxy:
            use_proxy(proxy, monkeypatch, no_proxy="127.0.0.1,localhost")
            error = fetch_error(PUBLIC)
            assert proxy.paths == [PUBLIC]
    assert (error.reason, private.received) == (SkipReason.PRIVATE_ADDRESS, b"")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "10.0.0.1",
        "169.254.169.254",
        "2130706433",
        "[::1]",
        "[::ffff:10.0.0.1]",
    ],
)
def test_no_private_address_is_requested_from_a_proxy(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scheme in ("http", "https"):
        with Wire() as proxy:
            use_proxy(proxy, monkeypatch)
            error = fetch_error(f"{scheme}://{host}:1/")
        assert (error.reason, proxy.received) == (SkipReason.PRIVATE_ADDRESS, b"")


def test_no_redirect_to_a_private_address_is_requested_from_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Wire(reply(b"", "Location: http://10.0.0.1/", status="302 Found")) as proxy:
        use_proxy(proxy, monkeypatch)
        assert fetch_error(PUBLIC).reason is SkipReason.PRIVATE_ADDRESS
    assert proxy.paths == [PUBLIC]


def test_no_ambiguous_url_is_requested_from_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Wire() as proxy:
        use_proxy(proxy, monkeypatch)
        with pytest.raises(FetchError):
            get("http://127.0.0.1\\@198.41.0.4/")
    assert proxy.received == b""


@pytest.mark.parametrize("url", [PUBLIC, "http://[2001:503:ba3e::2:30]/photo.jpg"])
@pytest.mark.parametrize("no_proxy", ["", "intranet.example,10.0.0.0/8"])
def test_public_addresses_are_requested_from_a_proxy(
    url: str, no_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wire(reply(b"photo")) as proxy:
        use_proxy(proxy, monkeypatch, no_proxy=no_proxy)
        assert get(url) == b"photo"
    assert proxy.paths == [url]
