from contextlib import suppress

import pytest
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.fetch_error import FetchError
from pipeline.stages.acquire.web.url_policy import find_private_address, is_public, parse_host


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.org", "example.org"),
        ("HTTPS://Live.StaticFlickr.com/1/2.jpg", "live.staticflickr.com"),
        ("https://me:secret@example.org:8443/a?b=c#d", "example.org"),
        ("http://[2001:4860:4860::8888]:80/a", "2001:4860:4860::8888"),
        ("http://bücher.example/ü", "bücher.example"),
        ("http://10.0.0.1/", "10.0.0.1"),
    ],
)
def test_the_host_of_an_address(url: str, host: str) -> None:
    assert parse_host(url) == host


@pytest.mark.parametrize(
    "url",
    [
        "",
        "photo.jpg",
        "/photo.jpg",
        "//example.org/a",
        "http:",
        "http://",
        "http:///a.jpg",
        "http:example.org",
        "file:///etc/hostname",
        "ftp://example.org/a",
        "data:image/png;base64,AAAA",
    ],
)
def test_a_url_without_http_or_https_is_refused(url: str) -> None:
    with pytest.raises(FetchError) as caught:
        parse_host(url)
    assert str(caught.value) == f"{url} is not an http or https address"


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://[x]/a",
        "http://a..b/c",
        "http://h:x/",
        "http://h:99999/",
        "http://h:0/",
        f"http://{'a' * 64}.org/",
        "http://:80/",
        "http://@/",
    ],
)
def test_an_invalid_host_or_port_is_refused(url: str) -> None:
    with pytest.raises(FetchError) as caught:
        parse_host(url)
    assert (caught.value.reason, caught.value.transient) == (SkipReason.BAD_ADDRESS, False)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1\\@example.org/a",
        "http://example.org\\@127.0.0.1/a",
        "http://127.0.0.1\\.example.org/a",
        "http://a@127.0.0.1@example.org/",
        "http://127.0.0.1#@example.org/",
        "http://127.0.0.1?@example.org/",
        "http://127.0.0.1\t.example.org/",
        "http://127.0.0.1%2f@example.org/",
    ],
)
def test_the_checked_host_is_the_requested_host(url: str) -> None:
    """Parsers disagree on such URLs; urllib3 is the one that sends the request."""
    with suppress(FetchError, LocationParseError):
        assert parse_host(url) == parse_url(url).host


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.127.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ],
)
def test_a_private_ipv4_address_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fd12:3456::1",
        "ff0e::1",
        "2001:db8::1",
        "2001::1",
        "100::1",
    ],
)
def test_a_private_ipv6_address_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("ipv4", ["127.0.0.1", "100.64.0.1"])
@pytest.mark.parametrize("ipv6", ["::ffff:{}", "64:ff9b::{}"])
def test_a_private_ipv4_address_embedded_in_ipv6_is_not_public(ipv4: str, ipv6: str) -> None:
    assert not is_public(ipv6.format(ipv4))


def test_a_private_ipv4_address_embedded_in_6to4_is_not_public() -> None:
    assert not is_public("2002:7f00:1::1")  # 127.0.0.1


@pytest.mark.parametrize(
    "address",
    [
        "::127.0.0.1",  # IPv4-compatible (RFC 4291, 2.5.5.1), deprecated
        "::ffff:0:127.0.0.1",  # IPv4-translated (RFC 7915)
        "fec0::1",  # site-local (RFC 3879), deprecated, still routed by some
        "64:ff9b:1::7f00:1",  # NAT64 of a private network (RFC 8215)
        "4000::1",  # not assigned by IANA
    ],
)
def test_an_unassigned_ipv6_address_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "172.32.0.1",
        "100.128.0.1",
        "192.169.0.1",
        "223.255.255.254",
        "2001:4860:4860::8888",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ],
)
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("::1", "::1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("①②⑦.0.0.1", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("167772161", "10.0.0.1"),
    ],
)
def test_a_private_address_is_found_in_any_notation(host: str, address: str) -> None:
    assert find_private_address(host) in {address, "::1"}  # localhost may have both


@pytest.mark.parametrize("host", ["8.8.8.8", "2001:4860:4860::8888", "134744072"])
def test_a_public_host_has_no_private_address(host: str) -> None:
    assert find_private_address(host) is None


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64, "a..b"])
def test_an_unknown_host_has_no_private_address(host: str) -> None:
    assert find_private_address(host) is None
