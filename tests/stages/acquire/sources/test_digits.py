from collections import Counter

import numpy as np
import pytest

from pipeline.images import decoding
from pipeline.images.header import read_header
from pipeline.stages.acquire.dataset_toml import DigitsDataset
from pipeline.stages.acquire.raw_image import RawImage
from pipeline.stages.acquire.sources import digits

DESCRIBED = DigitsDataset(kind="digits", description="d", licence="CC BY 4.0")


@pytest.fixture(scope="module")
def found() -> list[RawImage]:
    return list(digits.read_images(DESCRIBED))


def test_all_digits_come_with_their_labels(found: list[RawImage]) -> None:
    assert len(found) == 1797
    assert Counter(image.label for image in found) == {
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
    assert [image.name for image in found[:3]] == ["0/0000.png", "1/0001.png", "2/0002.png"]
    assert {(image.licence, image.split) for image in found} == {("CC BY 4.0", None)}


def test_names_and_bytes_are_unique(found: list[RawImage]) -> None:
    assert len({image.name for image in found}) == len(found)
    assert len({image.data for image in found}) == len(found)


def test_pixels_are_enlarged_and_nothing_is_invented(found: list[RawImage]) -> None:
    pixels = decoding.decode(found[0].data)
    assert pixels.shape == (32, 32, 3)
    small = pixels[::4, ::4, 0]
    assert (pixels == small.repeat(4, 0).repeat(4, 1)[:, :, None]).all()
    # The first row of the data set: 0, 0, 5, 13, 9, 1, 0, 0 of 16.
    assert small[0].tolist() == np.rint(np.array([0, 0, 5, 13, 9, 1, 0, 0]) * 255 / 16).tolist()


def test_a_digit_is_stored_as_it_is(found: list[RawImage]) -> None:
    assert read_header(found[0].data).plain


def test_the_same_bytes_come_twice(found: list[RawImage]) -> None:
    assert list(digits.read_images(DESCRIBED)) == found
