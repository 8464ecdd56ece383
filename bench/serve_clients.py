"""Clients of `pipeline serve`, in a process of their own: bench.serve starts it.

    python -m bench.serve_clients URL PHOTOS.zip --clients 32 --requests 2000 --hostile 0.1

Prints JSON: what each client saw, and the CPU seconds of this process while they ran. Each client
sends an image at a time on a connection that it keeps. A hostile request is one of several kinds;
the server may refuse it, or close its connection.
"""

import argparse
import asyncio
import json
import random
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from urllib.parse import urlsplit

HEAD = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n"
JPEG = "image/jpeg"


@dataclass(frozen=True)
class Prepared:
    """A request, ready to be sent."""

    content: bytes
    is_hostile: bool = False
    is_cut: bool = False
    """Whether the client leaves after half of it."""


@dataclass
class Seen:
    """What all clients saw."""

    good: Counter[str] = field(default_factory=Counter)
    """Replies to photographs, by status; "lost" without one."""
    hostile: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """Of each reply to a photograph."""
    wall: float = 0.0
    cpu: float = 0.0
    """Seconds of this process."""


def request(body: bytes, content_type: str = JPEG) -> bytes:
    return HEAD.format(content_type, len(body)).encode() + body


def hostile(photo: bytes, random_: random.Random) -> Prepared:
    """A request that a service should survive."""
    kind = random_.randrange(7)
    if kind == 0:
        return Prepared(request(photo[: len(photo) // 2]), True)
    if kind == 1:
        return Prepared(request(random_.randbytes(10_000)), True)
    if kind == 2:
        return Prepared(request(b"[" * 10_000, "application/json"), True)
    if kind == 3:
        return Prepared(request(photo, "text/html"), True)
    if kind == 4:  # damaged within
        middle = len(photo) // 2
        damaged = photo[:middle] + random_.randbytes(200) + photo[middle + 200 :]
        return Prepared(request(damaged), True)
    if kind == 5:
        return Prepared(b"POST /predict HTTP/1.1\r\nX: " + b"y" * 100_000, True)
    return Prepared(request(photo), True, is_cut=True)


def prepare(photos: Sequence[bytes], number: int, share: float) -> Iterator[Prepared]:
    """The requests; the same ones every time."""
    random_ = random.Random(1)
    for photo in islice(cycle(photos), number):
        yield hostile(photo, random_) if random_.random() < share else Prepared(request(photo))


class Client:
    """Sends requests one after another, on a connection that is opened again when it closes."""

    def __init__(self, url: str, seen: Seen) -> None:
        parts = urlsplit(url)
        self._address, self._seen = (parts.hostname, parts.port), seen
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, requests: Iterator[Prepared]) -> None:
        for prepared in requests:
            start = time.perf_counter()
            try:
                status = await self._send(prepared)
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                status = "lost"
                self._close()
            (self._seen.hostile if prepared.is_hostile else self._seen.good)[status] += 1
            if not prepared.is_hostile:
                self._seen.seconds.append(time.perf_counter() - start)
            if status != "200 answer":  # the server may close the connection, or has sent more
                self._close()
        self._close()

    async def _send(self, prepared: Prepared) -> str:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        if prepared.is_cut:
            writer.write(prepared.content[: len(prepared.content) // 2])
            await writer.drain()
            return "left"
        writer.write(prepared.content)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = head.split()[1]
        if status != "200":
            return status
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        body = await reader.readexactly(length)
        return "200 answer" if b'"problem":null' in body else "200 problem"

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def run(url: str, photos: Sequence[bytes], clients: int, number: int, share: float) -> Seen:
    seen = Seen()
    requests = iter(list(prepare(photos, number, share)))
    wall, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(Client(url, seen).run(requests))
    seen.wall, seen.cpu = time.perf_counter() - wall, time.process_time() - cpu
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("photos", type=Path, help="an archive of photographs")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--hostile", type=float, default=0, help="share of hostile requests")
    options = parser.parse_args()
    with zipfile.ZipFile(options.photos) as archive:
        photos = [archive.read(name) for name in archive.namelist()]
    seen = asyncio.run(run(options.url, photos, options.clients, options.requests, options.hostile))
    print(json.dumps(vars(seen)))


if __name__ == "__main__":
    main()
