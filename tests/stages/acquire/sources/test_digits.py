from collections import Counter

import numpy as np
import pytest

from pipeline.datasets.dataset_toml import DigitsDataset
from pipeline.images import decoding
from pipeline.images.header import read_header
from pipeline.stages.acquire.raw_image import RawImage
from pipeline.stages.acquire.sources import digits

DESCRIBED = DigitsDataset(kind="digits", description="d", licence="CC BY 4.0")


@pytest.fixture(scope="module")
def images() -> list[RawImage]:
    return list(digits.read_images(DESCRIBED))


def test_all_digits_come_with_their_labels(images: list[RawImage]) -> None:
    assert len(images) == 1797
    assert Counter(image.label for image in images) == {
        "0": 178,
        "1": 182,
        "2": 177,
        "3": 183,
        "4": 181,
        "5": 182,
        "6": 181,
        "7": 179,
        "8": 174,
        "9": 180,
    }
    assert [image.name for image in images[:3]] == ["0/0000.png", "1/0001.png", "2/0002.png"]
    assert {(image.licence, image.split) for image in images} == {("CC BY 4.0", None)}


def test_names_and_bytes_are_unique(images: list[RawImage]) -> None:
    assert len({image.name for image in images}) == len(images)
    assert len({image.data for image in images}) == len(images)


def test_pixels_are_repeated(images: list[RawImage]) -> None:
    pixels = decoding.decode(images[0].data)
    assert pixels.shape == (32, 32, 3)
    small = pixels[::4, ::4, 0]
    assert (pixels == small.repeat(4, 0).repeat(4, 1)[:, :, None]).all()
    # The first row of the data set: 0, 0, 5, 13, 9, 1, 0, 0 of 16.
    assert small[0].tolist() == np.rint(np.array([0, 0, 5, 13, 9, 1, 0, 0]) * 255 / 16).tolist()


def test_a_digit_is_a_plain_png(images: list[RawImage]) -> None:
    assert read_header(images[0].data).plain


def test_the_bytes_are_reproducible(images: list[RawImage]) -> None:
    assert list(digits.read_images(DESCRIBED)) == images
