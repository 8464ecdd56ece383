"""Decode untrusted images as the filter does, in worker processes that may die."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from pipeline.images import decoding, sandbox
from pipeline.images.header import RejectReason, Unreadable
from pipeline.images.isolated_pool import IsolatedFunction, IsolatedPool
from pipeline.images.pixels import Pixels
from pipeline.network.malloc import keep_freed_memory

Decoded = list[Pixels | RejectReason]
MALLOC_PAD = 16 * 2**20  # bytes; images have a memory limit too


class DecoderPool(IsolatedPool):
    """Worker processes that import only what decodes."""

    def __init__(self, processes: int | None = None) -> None:
        super().__init__(processes, prepare)

    def decode(
        self, chunks: Iterable[Sequence[bytes]], max_megapixels: float, side: int
    ) -> Iterator[Decoded]:
        """Yield for each chunk the pixels of its images or reasons why there are none, in order.

        A few chunks are taken ahead. `max_megapixels` and `side` are those of `decoding.load`.
        """
        function = IsolatedFunction(
            partial(decode_chunk, max_megapixels=max_megapixels, side=side),
            sandbox.memory_for(max_megapixels),
            _split,
            _stand_in,
            _name,
        )
        for results in self.map(function, chunks):
            yield [image for result in results for image in result]


def prepare() -> None:
    """What each worker does first."""
    keep_freed_memory(MALLOC_PAD)


def decode_chunk(chunk: Sequence[bytes], max_megapixels: float, side: int) -> Decoded:
    """Pixels of each image or the reason why there are none; runs in a worker."""
    return [_decode(data, max_megapixels, side) for data in chunk]


def _split(chunk: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [[data] for data in chunk]


def _stand_in(_: Sequence[bytes]) -> Decoded:
    return [RejectReason.BREAKS_DECODER]


def _name(chunk: Sequence[bytes]) -> str:
    return f"an image of {len(chunk[0])} bytes"


def _decode(data: bytes, max_megapixels: float, side: int) -> Pixels | RejectReason:
    with sandbox.deadline(sandbox.seconds_for(max_megapixels)):
        try:
            return decoding.load(data, max_megapixels, side)[1]
        except Unreadable as error:
            return error.reason
