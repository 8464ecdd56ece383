"""An S3 server on 127.0.0.1, in this process; it speaks the protocol over HTTP."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

import pytest
from moto.server import ThreadedMotoServer

BUCKET = "bucket"


@contextmanager
def serve_s3() -> Iterator[str]:
    """Serve one bucket; yield the server's address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    try:
        with pytest.MonkeyPatch.context() as patch:
            use_s3(patch, address)
            create_bucket()
        yield address
    finally:
        server.stop()


def use_s3(patch: pytest.MonkeyPatch, address: str) -> None:
    """Set the environment of S3's clients for a server."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    patch.setenv("AWS_ENDPOINT_URL", address)
    patch.setenv("AWS_ACCESS_KEY_ID", "key")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def create_bucket() -> None:
    import s3fs

    # The server's buckets are in this process, also those of earlier servers.
    urlopen(f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/reset", b"").close()
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir(BUCKET)
