"""Requests over TLS, with a self-signed certificate."""

import ipaddress
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.params import AcquireParams
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.fetch_error import FetchError
from pipeline.stages.acquire.web.retry import Policy
from tests.builders.params import ACQUIRE_PARAMS


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


class Server(HTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that does not trust the certificate disconnects."""


def certificate(folder: Path) -> Path:
    """A key and a certificate for 127.0.0.1, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "server.pem"
    path.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def pem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    return certificate(tmp_path)


@pytest.fixture
def url(pem: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}/a.jpg"
        server.shutdown()
        thread.join()


def get(url: str, params: AcquireParams = ACQUIRE_PARAMS) -> bytes:
    with (
        Client(params, Policy(connect_timeout=5, read_timeout=5)) as client,
        client.open(url) as response,
    ):
        return b"".join(response.blocks(100))


def test_a_trusted_server_is_accepted(url: str, pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    assert get(url) == b"hello"


def test_an_untrusted_certificate_is_a_permanent_error(url: str) -> None:
    with pytest.raises(FetchError, match="has no trusted certificate") as caught:
        get(url)
    assert (caught.value.reason, caught.value.transient) == (SkipReason.UNREACHABLE, False)


def test_a_private_address_is_refused_over_tls_too(url: str) -> None:
    with pytest.raises(FetchError) as caught:
        get(url, ACQUIRE_PARAMS.model_copy(update={"allow_private": False}))
    assert caught.value.reason is SkipReason.PRIVATE_ADDRESS
