import io
import os
import signal
from collections.abc import Iterator, Sequence
from functools import partial

import cv2
import numpy as np
import pillow_heif
import pytest

from pipeline.core.errors import PipelineError
from pipeline.images import decoding, isolated_pool
from pipeline.images.header import RejectReason
from pipeline.inference import decoder_pool
from pipeline.inference.decoder_pool import Decoded, DecoderPool

CRASHES, EXITS, HUNGRY = b"crashes", b"exits", b"hungry"


def png(level: int) -> bytes:
    return cv2.imencode(".png", np.full((40, 50, 3), level, np.uint8))[1].tobytes()


@pytest.fixture
def decoders() -> Iterator[DecoderPool]:
    with DecoderPool(processes=2) as decoders:
        yield decoders


def decode_or_die(chunk: Sequence[bytes], **_: object) -> Decoded:
    """Decodes; but some images break the decoder."""
    if CRASHES in chunk:
        os.kill(os.getpid(), signal.SIGABRT)
    if EXITS in chunk:
        os._exit(1)
    if HUNGRY in chunk:
        raise MemoryError
    return [decoding.load(data, 50, 400)[1] for data in chunk]


def test_pixels_are_those_of_the_filter_and_come_in_order(decoders: DecoderPool) -> None:
    chunks = [[png(10 * number), b"text", b"", png(1)] for number in range(20)]
    decoded = list(decoders.decode(chunks, 50, 400))
    assert len(decoded) == len(chunks)
    for number, (first, text, empty, _) in enumerate(decoded):
        assert np.array_equal(first, decoding.load(png(10 * number), 50, 400)[1])
        assert (text, empty) == (RejectReason.NOT_AN_IMAGE, RejectReason.EMPTY)


def test_a_heic_is_read_within_the_limits_of_a_worker(decoders: DecoderPool) -> None:
    file = io.BytesIO()
    pillow_heif.from_bytes("RGB", (50, 40), bytes(range(200)) * 30).save(file)
    ((pixels,),) = decoders.decode([[file.getvalue()]], 50, 400)
    assert np.array_equal(pixels, decoding.load(file.getvalue(), 50, 400)[1])


def test_few_chunks_are_in_memory_however_many_there_are(decoders: DecoderPool) -> None:
    taken = 0

    def chunks() -> Iterator[list[bytes]]:
        nonlocal taken
        for _ in range(60):
            taken += 1
            yield [png(9)]

    for yielded, _ in enumerate(decoders.decode(chunks(), 50, 400), 1):
        assert taken - yielded <= 6


@pytest.mark.parametrize("bad", [CRASHES, EXITS, HUNGRY])
def test_only_the_image_that_breaks_its_process_is_rejected(
    decoders: DecoderPool, monkeypatch: pytest.MonkeyPatch, bad: bytes
) -> None:
    monkeypatch.setattr(decoder_pool, "decode_chunk", decode_or_die)
    chunks = [[png(1), png(2)], [png(3), bad, png(4)], [], [png(5)], [bad], [png(6)], [png(7)]]
    levels = [
        [image if isinstance(image, RejectReason) else int(image[0, 0, 0]) for image in images]
        for images in decoders.decode(chunks, 50, 400)
    ]
    broken = RejectReason.BREAKS_DECODER
    assert levels == [[1, 2], [3, broken, 4], [], [5], [broken], [6], [7]]


def die_first(marker: str, times: int, chunk: Sequence[bytes], **_: object) -> Decoded:
    """Killed in the first `times` calls, which are counted in the file `marker`."""
    with open(marker, "a+b", buffering=0) as file:  # noqa: PTH123
        file.write(b".")
        calls = file.tell()
    if calls <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return [decoding.load(data, 50, 400)[1] for data in chunk]


def test_an_image_whose_worker_is_killed_is_tried_again(
    decoders: DecoderPool, monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    function = partial(die_first, os.path.join(tmp_path, "calls"), 4)  # noqa: PTH118
    monkeypatch.setattr(decoder_pool, "decode_chunk", function)
    ((image,),) = decoders.decode([[png(1)]], 50, 400)
    assert not isinstance(image, RejectReason)


def test_kills_without_end_are_an_error_and_no_reason(
    decoders: DecoderPool, monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    function = partial(die_first, os.path.join(tmp_path, "calls"), 1000)  # noqa: PTH118
    monkeypatch.setattr(decoder_pool, "decode_chunk", function)
    monkeypatch.setattr(isolated_pool, "PAUSES", (0.0, 0.0))
    with pytest.raises(PipelineError, match=rf"an image of {len(png(1))} bytes.*SIGKILL"):
        list(decoders.decode([[png(1)]], 50, 400))


def test_an_image_with_too_many_pixels_is_rejected() -> None:
    with DecoderPool(processes=1) as decoders:
        decoders.start()
        decoders.wait()
        assert list(decoders.decode([[png(1)]], 0.001, 400)) == [[RejectReason.TOO_MANY_PIXELS]]
