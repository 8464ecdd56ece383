"""A server of Google's storage on 127.0.0.1, in this process; it speaks the JSON API over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from gcp_storage_emulator.server import create_server

BUCKET = "bucket"


@contextmanager
def serve_gs() -> Iterator[None]:
    """Serve one bucket, for clients that are made in the block."""
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    server.start()
    _, port = server._api._httpd.server_address
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
            # Otherwise gcsfs asks Google for each bucket's kind, with the user's credentials.
            patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
            yield
    finally:
        server.stop()
