"""Whatever has images gives their bytes; what has none is refused without a dump of it."""

import base64
import errno
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import PipelineError
from pipeline.inference.image_values import read_images
from tests.builders.images import noise_png

PHOTO = noise_png(1, 9, 7)
PACKED = base64.b64encode(PHOTO).decode()
PIXELS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a photo.png").write_bytes(PHOTO)
    return tmp_path / "a photo.png"


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (PHOTO, 1),
        (bytearray(PHOTO), 1),
        (memoryview(PHOTO), 1),
        (PACKED, 1),
        ([PHOTO, PACKED], 2),
        ((PHOTO,), 1),
        ({"image": [PHOTO, PHOTO]}, 2),
        ({"image": PHOTO}, 1),
        (np.array([PHOTO, PACKED], dtype=object), 2),
        (np.array([[PACKED], [PACKED]]), 2),
        (pd.Series([PHOTO]), 1),
        (pd.DataFrame({"image": [PHOTO], "other": [1]}), 1),
        (pd.DataFrame([PHOTO, PHOTO]), 2),
        ([], 0),
    ],
)
def test_every_form_gives_the_bytes(data: Any, count: int) -> None:
    assert read_images(data) == [PHOTO] * count


def test_a_path_is_read_and_a_text_never(path: Path) -> None:
    """Who asks a server must not make it read its own files."""
    assert read_images(path) == [PHOTO]
    assert read_images([path, path.with_name("none.png")]) == [PHOTO, "gone"]
    absent = [path / "none.png", Path("a\0b.png")]
    assert read_images([*absent, path.parent]) == ["gone", "gone", "unreadable"]
    assert read_images([str(path), "photo.JPG", "https://example.org/a.png", "no base64!"]) == [
        "path_as_text",
        "path_as_text",
        "not_base64",
        "not_base64",
    ]


def fail_with(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every read fail; without permission, root would not."""

    def read_bytes(path: Path) -> bytes:
        raise OSError(number, "broken", str(path))

    monkeypatch.setattr(Path, "read_bytes", read_bytes)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENAMETOOLONG])
def test_a_file_that_cannot_be_read_is_unreadable(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fail_with(number, monkeypatch)
    assert read_images(path) == ["unreadable"]


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EMFILE])
def test_an_error_of_the_machine_is_raised(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fail_with(number, monkeypatch)
    with pytest.raises(OSError, match="broken"):
        read_images(path)


@pytest.mark.parametrize("data", [PIXELS, PIXELS[None], [PIXELS], np.stack([PIXELS, PIXELS])])
def test_pixels_are_images_in_rgb(data: Any) -> None:
    for image in read_images(data):
        assert isinstance(image, bytes)
        decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        assert np.array_equal(decoded[:, :, ::-1], PIXELS)


@pytest.mark.parametrize("data", [PIXELS[:, :, 0], PIXELS[:, :, :1], PIXELS[None, :, :, :1]])
def test_pixels_may_be_grey(data: Any) -> None:
    (image,) = read_images(data)
    assert isinstance(image, bytes)
    decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    assert np.array_equal(decoded, PIXELS[:, :, 0])


def test_pixels_may_have_an_opacity() -> None:
    pixels = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 7, np.uint8)])
    (image,) = read_images(pixels)
    assert isinstance(image, bytes)
    decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    assert np.array_equal(decoded[:, :, [2, 1, 0, 3]], pixels)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "not int"),
        (None, "not NoneType"),
        ({"photo": [PHOTO]}, "a table with a column 'image', and not dict"),
        (pd.DataFrame({"a": [PHOTO], "b": [PHOTO]}), "the table has no column 'image', but: a, b"),
        (pd.DataFrame({"x": [PHOTO]}), "the table has no column 'image', but: x"),
        (PIXELS.astype(float), "not float64, (5, 4, 3)"),
        (PIXELS.transpose(2, 0, 1), "not uint8, (3, 5, 4)"),
        (PIXELS.transpose(2, 1, 0)[:, :, :3], "not uint8, (3, 4, 3)"),
        (PIXELS[:, :, :2], "not uint8, (5, 4, 2)"),
        (PIXELS[:, 0, 0], "not uint8, (5,)"),
        (PIXELS[:0], "not uint8, (0, 4, 3)"),
    ],
)
def test_what_has_no_images_is_refused_in_a_short_sentence(data: Any, message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        read_images(data)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200
