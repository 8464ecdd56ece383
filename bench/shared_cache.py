"""The shared cache on an S3 server at some latency, against one request after the other.

    python -m bench.shared_cache

The server is moto's, on 127.0.0.1, behind a proxy that delays what it passes on. It computes in
this process, so that more files a second are possible with a real one.
"""

import argparse
import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import s3fs
from moto.server import ThreadedMotoServer

from pipeline.distributed import shared_cache
from pipeline.distributed.shared_cache import AddressCache

BUCKET = "bucket"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
FILES = 200  # as for 200,000 images
BYTES = 100_000  # of each: a thousand judgements


@contextmanager
def delayed(port: int, seconds: float) -> Iterator[int]:
    """A proxy to a port, which passes everything on after some time; yields its own port."""
    loop = asyncio.new_event_loop()
    ports: list[int] = []
    is_ready = threading.Event()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pending: set[asyncio.TimerHandle] = set()
        while data := await reader.read(2**16):
            pending.add(loop.call_later(seconds, writer.write, data))
        loop.call_later(2 * seconds, writer.close)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, other_writer), pass_on(other_reader, writer))

    async def serve() -> None:
        server = await asyncio.start_server(connect, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        is_ready.set()

    threading.Thread(target=loop.run_forever, daemon=True).start()
    asyncio.run_coroutine_threadsafe(serve(), loop)
    is_ready.wait()
    yield ports[0]
    loop.call_soon_threadsafe(loop.stop)


def measure(cache: AddressCache, folder: str) -> tuple[float, float]:
    """Seconds to write all files, and to read them."""
    files = {f"{number:04}": os.urandom(BYTES) for number in range(FILES)}
    start = time.perf_counter()
    cache.write(folder, files)
    written = time.perf_counter()
    assert dict(cache.read(folder, cache.sizes(folder))) == files
    return written - start, time.perf_counter() - written


def measure_single(cache: AddressCache, folder: str) -> tuple[float, float]:
    """The same, one file after the other."""
    files = {f"{number:04}": os.urandom(BYTES) for number in range(FILES)}
    start = time.perf_counter()
    for name, content in files.items():
        cache.write(folder, {name: content})
    written = time.perf_counter()
    with patch.object(shared_cache, "MAX_READ_FILES", 1):
        assert dict(cache.read(folder, cache.sizes(folder))) == files
    return written - start, time.perf_counter() - written


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latency", type=float, default=0.03, help="seconds, there and back")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with delayed(port, options.latency / 2) as port:
        os.environ |= CREDENTIALS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        s3fs.S3FileSystem().mkdir(BUCKET)
        for repeat in range(options.repeats):
            cache = AddressCache(f"s3://{BUCKET}/{repeat}")
            at_once, single = measure(cache, "at-once"), measure_single(cache, "single")
            for name, together, alone in zip(("write", "read"), at_once, single, strict=True):
                print(
                    f"{name}: {FILES / together:.0f} files/s together, {FILES / alone:.0f} one by "
                    f"one, ratio {alone / together:.1f}",
                    flush=True,
                )
    server.stop()


if __name__ == "__main__":
    main()
