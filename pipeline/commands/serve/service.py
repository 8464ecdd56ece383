"""All parts of the service, started and ended in order."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp

from pipeline.commands.serve import server
from pipeline.commands.serve.access import LOOPBACK
from pipeline.commands.serve.app import Service, build_app
from pipeline.commands.serve.batching import Batcher
from pipeline.commands.serve.feedback import FeedbackFolder
from pipeline.commands.serve.fetch import Fetcher
from pipeline.commands.serve.limits import Limits
from pipeline.commands.serve.metrics import Metrics
from pipeline.commands.serve.models import ModelSource, ModelWatcher
from pipeline.inference.answer_log import AnswerLog
from pipeline.inference.decoder_pool import DecoderPool


@dataclass(frozen=True)
class RunningService:
    """A service that listens."""

    model: str
    """The name of the model."""
    note: str
    """As ServedModel.note."""
    app: ASGIApp
    socket: socket.socket

    @property
    def url(self) -> str:
        return server.url_of(self.socket)

    def run(self) -> None:
        """Answer until a signal comes."""
        server.run(self.app, self.socket)


@contextmanager
def open_service(
    address: str,
    host: str,
    port: int,
    decoders: DecoderPool,
    token: str | None,
    urls: bool,
    log: Path | None = None,
    feedback: Path | None = None,
    data: Path | None = None,
) -> Iterator[RunningService]:
    """Load the model at `address`, and listen; at the end of the block, answer what waits.

    Args:
        decoders: Its workers start.
        token: That clients must send; None if they need none.
        urls: Whether clients may name URLs.
        log: Where features and answers are logged; None for nowhere.
        feedback: Where pictures that people called wrong are kept; None for nowhere.
        data: See `ModelSource`.

    Raises:
        PipelineError: there is no such model, or the port cannot be used.
    """
    limits, metrics = Limits(), Metrics()
    folder = FeedbackFolder(feedback) if feedback else None
    source = ModelSource(address, data)
    model = source.load()
    assert model is not None  # the first time
    decoders.wait()
    batcher = Batcher(
        model, decoders, limits.waiting_images, metrics, AnswerLog(log) if log else None
    )
    source.lock = batcher.lock
    watcher = ModelWatcher(source, batcher, metrics)
    fetcher = Fetcher(limits.body_bytes) if urls else None
    hosts = LOOPBACK | {host} if server.is_loopback(host) else None
    app = build_app(Service(batcher, metrics, limits, token, hosts, fetcher, folder))
    with server.listen(host, port) as listening:
        batcher.start(2 * (os.cpu_count() or 1))  # so that one half computes
        if source.is_alias:
            watcher.start()
        try:
            yield RunningService(model.name, model.note, app, listening)
        finally:
            watcher.stop()
            batcher.close()
            if fetcher is not None:
                fetcher.close()
