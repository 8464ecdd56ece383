import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.images import decoding
from pipeline.images.decoding import Pixels
from pipeline.images.header import RejectReason
from pipeline.inference.decoder_pool import Decoders

KILLS, HUNGRY = b"kills", b"hungry"


def png(level: int) -> bytes:
    return cv2.imencode(".png", np.full((40, 50, 3), level, np.uint8))[1].tobytes()


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    with Decoders(processes=2) as decoders:
        yield decoders


def hostile(data: Sequence[bytes], *_: object) -> list[Pixels | RejectReason]:
    """Stands for decoders that some images break."""
    if KILLS in data:
        os.kill(os.getpid(), signal.SIGKILL)
    if HUNGRY in data:
        raise MemoryError
    return [decoding.load(each, 50, 400)[1] for each in data]


def test_pixels_are_those_of_the_filter_and_come_in_order(decoders: Decoders) -> None:
    chunks = [[png(10 * number), b"text", b"", png(1)] for number in range(20)]
    found = list(decoders.decode(chunks, 50, 400))
    assert len(found) == len(chunks)
    for number, (first, text, empty, _) in enumerate(found):
        assert np.array_equal(first, decoding.load(png(10 * number), 50, 400)[1])
        assert (text, empty) == (RejectReason.NOT_AN_IMAGE, RejectReason.EMPTY)


def test_few_chunks_are_held_however_many_there_are(decoders: Decoders) -> None:
    taken = 0

    def chunks() -> Iterator[list[bytes]]:
        nonlocal taken
        for _ in range(60):
            taken += 1
            yield [png(9)]

    for given, _ in enumerate(decoders.decode(chunks(), 50, 400), 1):
        assert taken - given <= 6


@pytest.mark.parametrize("bad", [KILLS, HUNGRY])
def test_an_image_that_breaks_its_process_is_named_and_no_other(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch, bad: bytes
) -> None:
    monkeypatch.setattr(decoders, "_function", hostile)
    chunks = [[png(1), png(2)], [png(3), bad, png(4)], [png(5)], [bad], [png(6)], [png(7)]]
    found = list(decoders.decode(chunks, 50, 400))
    said = [
        [one if isinstance(one, RejectReason) else int(one[0, 0, 0]) for one in row]
        for row in found
    ]
    broken = RejectReason.BREAKS_DECODER
    assert said == [[1, 2], [3, broken, 4], [5], [broken], [6], [7]]


def unlucky(data: Sequence[bytes], marker: str, *_: object) -> list[Pixels | RejectReason]:
    """Dies the first time, of something else."""
    with suppress(FileExistsError):
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        os.kill(os.getpid(), signal.SIGKILL)
    return [decoding.load(each, 50, 400)[1] for each in data]


def test_bad_luck_is_no_images_fault(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(decoders, "_function", unlucky)
    (found,) = decoders.decode([[png(1)]], str(tmp_path / "died"), 400)  # type: ignore[arg-type]
    assert not isinstance(found[0], RejectReason)


def test_too_many_pixels_are_refused_unseen() -> None:
    with Decoders(processes=1) as strict:
        strict.start()
        assert list(strict.decode([[png(1)]], 0.001, 400)) == [[RejectReason.TOO_MANY_PIXELS]]
