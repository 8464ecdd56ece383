from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.images import decoding
from pipeline.images.decoding import Pixels
from pipeline.network import views
from pipeline.network.views import EVALUATION, Preprocess, Views
from pipeline.params import ImagesParams, load_params, with_overrides
from tests import ROOT

PREPARED = Preprocess(
    size=32,
    resize=36,
    interpolation="bilinear",
    mean=[0.485, 0.456, 0.406],
    std=[0.229, 0.224, 0.225],
)
SHIPPED = load_params(ROOT / "params.yaml")
AUGMENTS = [
    "crop",
    "flip",
    "crop-flip",
    "rotate",
    "shift",
    "trivial",
    "crop-rotate-flip",
    "shift-flip",
    "crop-rotate-flip-trivial",
    "shift-rotate-flip-trivial",
]


def chosen(augment: str = "crop-flip", **overrides: object) -> ImagesParams:
    named = {f"images.{name}": value for name, value in overrides.items()}
    small = {"images.size": 32, "images.augment": augment}
    return with_overrides(SHIPPED, small | named).images


def encoded(count: int) -> list[bytes]:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (40, 60, 3), np.uint8) for _ in range(count)]
    return [cv2.imencode(".png", picture)[1].tobytes() for picture in pictures]


def made(view: int, seed: int = 1, images: ImagesParams | None = None) -> Views:
    ids = [str(number) for number in range(4)]
    return Views(ids, encoded(4), PREPARED, images or chosen(), [view], seed)


def seen(data: bytes, images: ImagesParams, view: int = 1, key: str = "one") -> Tensor:
    return Views([key], [data], PREPARED, images, [view], 1)[0]


def png(pixels: Pixels) -> bytes:
    return cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes()


@pytest.mark.parametrize("augment", AUGMENTS)
def test_a_view_depends_on_neither_order_nor_the_global_generator(augment: str) -> None:
    images = chosen(augment)
    forward = [made(1, images=images)[number] for number in range(4)]
    torch.manual_seed(99)
    backward = [made(1, images=images)[number] for number in reversed(range(4))]
    assert all(map(torch.equal, forward, reversed(backward)))


@pytest.mark.parametrize("augment", AUGMENTS)
def test_every_way_to_augment_gives_pictures_of_the_networks_size(augment: str) -> None:
    shown = [made(view, images=chosen(augment))[0] for view in range(1, 9)]
    assert {(view.shape, view.dtype) for view in shown} == {((3, 32, 32), torch.uint8)}
    assert any(not torch.equal(view, made(EVALUATION)[0]) for view in shown)
    assert all(view.is_contiguous() for view in shown)


def test_seed_image_and_view_each_change_an_augmented_view() -> None:
    first = made(1)[0]
    assert not torch.equal(first, made(2)[0])
    assert not torch.equal(first, made(1, seed=2)[0])
    same_picture = Views(["other"], encoded(1), PREPARED, chosen(), [1], 1)
    assert not torch.equal(first, same_picture[0])


def test_the_evaluation_view_has_no_chance_in_it() -> None:
    assert torch.equal(made(EVALUATION, seed=1)[0], made(EVALUATION, seed=2)[0])


def test_the_evaluation_view_is_the_resized_centre() -> None:
    data = encoded(1)[0]
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    resized = v2.functional.resize(torch.from_numpy(pixels).permute(2, 0, 1), [36])
    expected = v2.functional.center_crop(resized, [32])
    assert torch.equal(made(EVALUATION)[0], expected)


def test_making_a_view_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    made(1)[0]
    assert torch.equal(torch.rand(1), expected)


def test_flipping_shows_both_sides() -> None:
    plain = made(EVALUATION)[0]
    shown = [made(view, images=chosen("flip"))[0] for view in range(1, 20)]
    flipped = [torch.equal(view, plain.flip(2)) for view in shown]
    assert all(done or torch.equal(view, plain) for done, view in zip(flipped, shown, strict=True))
    assert 4 < sum(flipped) < 16


def test_a_crop_shows_no_less_than_its_smallest_share() -> None:
    """Of a picture whose colours say where each pixel is."""
    down, right = np.mgrid[0:128, 0:128] * 2
    where = np.dstack([down, right, 0 * down]).astype(np.uint8)
    images = chosen("crop", crop_area=[0.25, 0.36], crop_ratio=[1.0, 1.0])
    for view in range(1, 30):
        shown = seen(png(where), images, view)[:2].float() / 2
        height, width = (shown[axis].max() - shown[axis].min() for axis in (0, 1))
        assert 0.21 * 128**2 < height * width < 0.36 * 128**2


def test_turning_stays_within_its_angle() -> None:
    """A line from the centre to the right, turned, ends as high as the angle's sine says."""
    line = np.zeros((36, 36, 3), np.uint8)
    line[17:19, 18:] = 255
    heights = []
    for view in range(1, 40):
        shown = seen(png(line), chosen("rotate", rotate=15), view)[0, :, 29].float()
        heights.append(((shown * torch.arange(32)).sum() / shown.sum()).item() - 15.5)
    reach = 13.5 * np.tan(np.radians(15)) + 0.6
    assert all(abs(height) <= reach for height in heights)
    assert min(heights) < -2
    assert max(heights) > 2


def test_shifting_goes_as_far_as_it_may_and_mirrors_the_edge() -> None:
    down, right = np.mgrid[0:36, 0:36] * 7
    where = np.dstack([down, right, 0 * down]).astype(np.uint8)
    plain = seen(png(where), chosen(), EVALUATION)
    corners = set()
    for view in range(1, 200):
        shown = seen(png(where), chosen("shift", shift=0.125), view)
        corners.add(int(shown[0, 16, 16]) - int(plain[0, 16, 16]))
        assert shown.min() >= 0
        assert set(shown[0, :, 5].tolist()) <= set(plain[0, :, 5].tolist())
    assert corners == {7 * step for step in range(-4, 5)}


def test_a_picture_of_any_shape_and_depth_can_be_augmented() -> None:
    random = np.random.default_rng(0)
    for height, width in ((32, 400), (400, 32), (33, 33), (1, 5)):
        data = png(random.integers(0, 255, (height, width, 3), np.uint8))
        for augment in AUGMENTS:
            assert seen(data, chosen(augment)).shape == (3, 32, 32)


def test_a_large_jpeg_is_decoded_no_larger_than_the_view_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = np.full((400, 600, 3), (200, 90, 40), np.uint8)
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    sizes = []
    decode = decoding.decode

    def noted(data: bytes, least: int | None = None) -> Pixels:
        found = decode(data, least)
        sizes.append(found.shape[:2])
        return found

    monkeypatch.setattr(decoding, "decode", noted)
    for view in (EVALUATION, 1):  # the same, or their decoding could not be shared
        seen(jpeg, chosen("crop"), view)
    assert sizes == [(100, 150), (100, 150)]  # twice the 36 pixels before the crop, or more


def test_the_views_of_an_image_share_its_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    decode = decoding.decode

    def noted(data: bytes, least: int | None = None) -> Pixels:
        decoded.append(data)
        return decode(data, least)

    apart = [made(view)[number] for number in range(4) for view in (0, 2, 3)]
    monkeypatch.setattr(decoding, "decode", noted)
    several = Views([str(n) for n in range(4)], encoded(4), PREPARED, chosen(), [0, 2, 3], 1)
    assert len(several) == 12
    assert all(map(torch.equal, (several[index] for index in range(12)), apart))
    assert decoded == encoded(4)


def test_normalising_brings_the_weights_mean_to_zero() -> None:
    grey = torch.tensor(PREPARED.mean).mul(255).round().byte().view(1, 3, 1, 1).expand(2, 3, 4, 4)
    assert PREPARED.normalise(grey).abs().max() < 0.01
    assert PREPARED.normalise(grey).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["nearest", "bicubic"])
def test_other_ways_to_blend_pixels_can_be_augmented_too(name: str) -> None:
    other = PREPARED.model_copy(update={"interpolation": name})
    for augment in AUGMENTS:
        found = Views(["one"], encoded(1), other, chosen(augment), [1], 1)[0]
        assert found.shape == (3, 32, 32)


def test_stored_images_are_found_by_id_across_shards(tmp_path: Path) -> None:
    rows = [
        {
            "id": str(n),
            "label": "a",
            "name": "n",
            "width": 1,
            "height": 1,
            "phash": 0,
            "bytes": f"image {n}".encode(),
        }
        for n in range(2 * shards.ROWS)
    ]
    shards.write(tmp_path / "clean", shards.CLEAN, rows)
    stored = views.EncodedImages(tmp_path / "clean", ["1500", "3"])
    assert list(stored) == [b"image 1500", b"image 3"]


def test_an_image_that_the_shards_lack_is_told(dataset: Path) -> None:
    with pytest.raises(PipelineError, match=r"lacks the image 'gone'.*dvc repro"):
        views.EncodedImages(dataset / "clean", ["gone"])


@pytest.mark.parametrize(("height", "width"), [(1, 200_000), (200_000, 1), (20, 30_000)])
def test_of_a_very_long_image_the_middle_is_seen(height: int, width: int) -> None:
    pixels = torch.zeros(3, height, width, dtype=torch.uint8)
    pixels[:, height // 2 - 8 : height // 2 + 8, width // 2 - 8 : width // 2 + 8] = 200
    pixels[:, height // 2, width // 2] = 200
    view = PREPARED.evaluation()(pixels)
    assert view.shape == (3, PREPARED.size, PREPARED.size)
    assert view[:, PREPARED.size // 2, PREPARED.size // 2].float().mean() > 20


@pytest.mark.parametrize("augment", AUGMENTS)
def test_what_is_drawn_apart_from_the_work_is_as_torchvision_draws_it(augment: str) -> None:
    wanted = chosen(augment)
    seen = made(2, seed=5, images=wanted)
    transforms = v2.Compose(PREPARED.augmented(wanted))
    for number, data in enumerate(encoded(4)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(views._seed(5, str(number), 2))
            found = transforms(torch.from_numpy(decoding.decode(data)).permute(2, 0, 1))
        assert torch.equal(seen[number], found)
