import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from PIL import Image, ImageFile

from pipeline.core import shards
from pipeline.stages.acquire.raw_image import RawImage
from pipeline.stages.describe import thumbnails
from tests.html_page import size

SIDE = thumbnails.SIDE


@pytest.fixture(autouse=True)
def threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run joblib in threads: processes take a second to start."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with joblib.parallel_config("threading"):
        yield


def picture(height: int = 60, width: int = 80, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((60, 80), (60, 80)),
        ((SIDE, SIDE), (SIDE, SIDE)),
        ((600, 300), (SIDE, SIDE // 2)),
        ((300, 1200), (SIDE // 4, SIDE)),
        ((1, 1), (1, 1)),
        ((1, 2000), (1, SIDE)),
        ((3000, 2), (SIDE, 1)),
    ],
)
def test_a_thumbnail_has_at_most_side_pixels(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    drawn = thumbnails.draw(encode(picture(*shape), "PNG"))
    assert drawn is not None
    assert drawn.startswith(b"\xff\xd8")
    assert size(drawn) == expected


def test_colours_stay_and_exif_rotates() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    red = Image.new("RGB", (80, 40), (200, 20, 20))
    drawn = thumbnails.draw(encode(red, "JPEG", exif=exif))
    assert drawn is not None
    image = Image.open(io.BytesIO(drawn))
    assert image.size == (40, 80)
    colour = np.asarray(image)[40, 20].astype(int)
    assert np.abs(colour - (200, 20, 20)).max() < 12


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_every_format_and_mode_is_drawn(form: str, mode: str) -> None:
    if (form, mode) in {("JPEG", "P"), ("WEBP", "P")}:
        mode = "RGB"
    assert thumbnails.draw(encode(picture().convert(mode), form)) is not None


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.95])
def test_the_intact_part_of_a_damaged_image_is_drawn(form: str, fraction: float) -> None:
    data = encode(picture(400, 600), form)
    drawn = thumbnails.draw(data[: int(len(data) * fraction)])
    assert drawn is not None
    assert size(drawn) == (213, SIDE)


def test_drawing_damaged_images_leaves_pillow_strict() -> None:
    data = encode(picture(), "JPEG")
    thumbnails.draw(data[: len(data) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    thumbnails.draw(b"\xff\xd8\xff")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize(
    "data", [b"", b"text", b"\xff\xd8\xff", encode(picture(), "PNG")[:20], encode(picture(), "ICO")]
)
def test_data_without_a_picture_are_not_drawn(data: bytes) -> None:
    assert thumbnails.draw(data) is None


def test_a_too_large_image_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "MAX_MEGAPIXELS", 0.01)
    for data in (encode(picture(101, 100), "PNG"), encode(picture(101, 100), "JPEG")[:-200]):
        assert thumbnails.draw(data) is None
    assert thumbnails.draw(encode(picture(100, 100), "PNG")) is not None


def write(folder: Path, *datas: bytes) -> list[str]:
    rows = [RawImage(f"x/{n}", "x", data).row() for n, data in enumerate(datas)]
    shards.write(folder / "raw", shards.RAW, rows)
    return [str(row["id"]) for row in rows]


def test_only_requested_images_with_a_picture_are_drawn(tmp_path: Path) -> None:
    data = encode(picture(), "PNG")
    cut = encode(picture(seed=1), "JPEG")[:-300]
    ids = write(tmp_path, data, b"text", cut, encode(picture(seed=2), "PNG"), data)
    drawn = thumbnails.draw_all(tmp_path / "raw", set(ids[:3]))
    assert set(drawn) == {ids[0], ids[2]}
    assert drawn[ids[0]] == thumbnails.draw(data)
    assert thumbnails.draw_all(tmp_path / "raw", set()) == {}
    assert thumbnails.draw_all(tmp_path / "raw", {"unheard"}) == {}


def test_a_picture_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = write(tmp_path, *(encode(picture(seed=seed), "PNG") for seed in range(3)))
    first = thumbnails.draw_all(tmp_path / "raw", ids)
    monkeypatch.setattr(thumbnails, "draw", None)
    assert thumbnails.draw_all(tmp_path / "raw", ids) == first


def test_workers_and_threads_draw_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = write(tmp_path, encode(picture(), "PNG"), encode(picture(seed=1), "JPEG")[:-300], b"")
    expected = thumbnails.draw_all(tmp_path / "raw", ids)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "elsewhere"))
    with joblib.parallel_config("loky"):
        assert thumbnails.draw_all(tmp_path / "raw", ids) == expected
    assert set(expected) == set(ids[:2])
