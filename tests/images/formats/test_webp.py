import numpy as np
import pytest
from PIL import Image

from pipeline.images import decoding
from pipeline.images.formats.webp import is_lossless
from pipeline.images.header import Warn
from pipeline.images.pixels import Pixels
from pipeline.stages.filter import judgement
from tests.builders.image_files import riff_chunk, scene, webp
from tests.builders.odd_images import encode
from tests.builders.params import FILTER_PARAMS

BLACK = Image.fromarray(np.zeros_like(scene()))
EXIF = riff_chunk(b"EXIF", b"II*\0\x08\0\0\0\0\0\0\0\0\0")
VP8X = riff_chunk(b"VP8X", bytes([8, 0, 0, 0, 69, 0, 0, 59, 0, 0]))
LOSSLESS, LOSSY = (encode(scene(), "WEBP", lossless=value)[12:] for value in (True, False))
RGBA = Image.fromarray(np.dstack([scene(), np.full((60, 70), 255, np.uint8)]))


def stored_pixels(data: bytes) -> tuple[bytes, Pixels]:
    judged = judgement.judge(data, FILTER_PARAMS)
    assert judged.stored is not None
    return judged.stored[:4], decoding.decode(judged.stored)


@pytest.mark.parametrize(
    "data",
    [
        webp(LOSSLESS),
        webp(VP8X, LOSSLESS, EXIF),
        webp(VP8X, riff_chunk(b"ICCP", b"no profile"), LOSSLESS),
        webp(VP8X, riff_chunk(b"odd ", b"odd"), LOSSLESS),
        encode(scene(), "WEBP", lossless=True, save_all=True, append_images=[BLACK]),
        encode(RGBA, "WEBP", lossless=True),
    ],
    ids=["simple", "extended", "profile", "unknown chunk", "animation", "alpha"],
)
def test_lossless_pixels_are_stored_exactly_in_any_container(data: bytes) -> None:
    signature, pixels = stored_pixels(data)
    assert signature == b"\x89PNG"
    assert np.array_equal(pixels, scene())


@pytest.mark.parametrize(
    "data",
    [
        webp(LOSSY),
        webp(VP8X, LOSSY, EXIF),
        encode(scene(), "WEBP", save_all=True, append_images=[BLACK]),
        webp(VP8X, LOSSY, riff_chunk(b"junk", b"VP8L")),
    ],
)
def test_lossy_pixels_are_stored_as_jpeg(data: bytes) -> None:
    signature, pixels = stored_pixels(data)
    assert signature[:2] == b"\xff\xd8"
    assert np.abs(pixels.astype(int) - scene()).mean() < 10


def test_a_lossy_picture_with_lossless_alpha_is_lossy() -> None:
    alpha = np.tile(np.arange(70, dtype=np.uint8) * 3, (60, 1))
    data = encode(Image.fromarray(np.dstack([scene(), alpha])), "WEBP", quality=50)
    assert b"ALPH" in data
    assert not is_lossless(data)
    assert judgement.judge(data, FILTER_PARAMS).warnings == (Warn.TRANSPARENCY_FLATTENED,)


@pytest.mark.parametrize("data", [b"", b"RIFF", webp(), webp(b"VP8L"), webp(b"ANMF\xff\xff\0\0")])
def test_a_cut_file_is_not_lossless(data: bytes) -> None:
    assert not is_lossless(data)
