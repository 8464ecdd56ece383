from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.core.shards import writer
from pipeline.images import decoding
from pipeline.images.pixels import Pixels
from pipeline.network import augmentation, views
from pipeline.network.views import EVALUATION, Preprocess, Views
from pipeline.params import ImagesParams, load_params, with_overrides
from tests import ROOT
from tests.builders.clean_rows import clean_row
from tests.builders.damage import zero_bytes_of

PREPROCESS = Preprocess(
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


def images_params(augment: str = "crop-flip", **overrides: object) -> ImagesParams:
    named = {f"images.{name}": value for name, value in overrides.items()}
    small = {"images.size": 32, "images.augment": augment}
    return with_overrides(SHIPPED, small | named).images


def encode_images(count: int) -> list[bytes]:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (40, 60, 3), np.uint8) for _ in range(count)]
    return [cv2.imencode(".png", picture)[1].tobytes() for picture in pictures]


def make_views(view: int, seed: int = 1, images: ImagesParams | None = None) -> Views:
    ids = [str(number) for number in range(4)]
    return Views(ids, encode_images(4), PREPROCESS, images or images_params(), [view], seed)


def view_of(data: bytes, images: ImagesParams, view: int = 1, key: str = "one") -> Tensor:
    return Views([key], [data], PREPROCESS, images, [view], 1)[0]


def png(pixels: Pixels) -> bytes:
    return cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes()


@pytest.mark.parametrize("augment", AUGMENTS)
def test_a_view_depends_on_neither_order_nor_the_global_generator(augment: str) -> None:
    images = images_params(augment)
    forward = [make_views(1, images=images)[number] for number in range(4)]
    torch.manual_seed(99)
    backward = [make_views(1, images=images)[number] for number in reversed(range(4))]
    assert all(map(torch.equal, forward, reversed(backward)))


@pytest.mark.parametrize("augment", AUGMENTS)
def test_every_augmentation_gives_images_of_the_networks_size(augment: str) -> None:
    augmented = [make_views(view, images=images_params(augment))[0] for view in range(1, 9)]
    assert {(view.shape, view.dtype) for view in augmented} == {((3, 32, 32), torch.uint8)}
    assert any(not torch.equal(view, make_views(EVALUATION)[0]) for view in augmented)
    assert all(view.is_contiguous() for view in augmented)


def test_seed_image_and_view_each_change_an_augmented_view() -> None:
    first = make_views(1)[0]
    assert not torch.equal(first, make_views(2)[0])
    assert not torch.equal(first, make_views(1, seed=2)[0])
    same_picture = Views(["other"], encode_images(1), PREPROCESS, images_params(), [1], 1)
    assert not torch.equal(first, same_picture[0])


def test_the_evaluation_view_does_not_depend_on_the_seed() -> None:
    assert torch.equal(make_views(EVALUATION, seed=1)[0], make_views(EVALUATION, seed=2)[0])


def test_the_evaluation_view_is_the_resized_centre() -> None:
    data = encode_images(1)[0]
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    resized = v2.functional.resize(torch.from_numpy(pixels).permute(2, 0, 1), [36])
    expected = v2.functional.center_crop(resized, [32])
    assert torch.equal(make_views(EVALUATION)[0], expected)


def test_views_do_not_change_the_global_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    make_views(1)[0]
    assert torch.equal(torch.rand(1), expected)


def test_about_half_of_the_views_are_flipped() -> None:
    plain = make_views(EVALUATION)[0]
    augmented = [make_views(view, images=images_params("flip"))[0] for view in range(1, 20)]
    flipped = [view for view in augmented if torch.equal(view, plain.flip(2))]
    unchanged = [view for view in augmented if torch.equal(view, plain)]
    assert len(flipped) + len(unchanged) == len(augmented)
    assert 4 < len(flipped) < 16


def test_the_area_of_a_crop_is_within_its_bounds() -> None:
    """The colours of this image are the positions of its pixels."""
    down, right = np.mgrid[0:128, 0:128] * 2
    gradient = np.dstack([down, right, 0 * down]).astype(np.uint8)
    images = images_params("crop", crop_area=[0.25, 0.36], crop_ratio=[1.0, 1.0])
    for view in range(1, 30):
        crop = view_of(png(gradient), images, view)[:2].float() / 2
        height, width = (crop[axis].max() - crop[axis].min() for axis in (0, 1))
        assert 0.21 * 128**2 < height * width < 0.36 * 128**2


def test_rotations_stay_within_their_angle() -> None:
    """A line from the centre to the right, rotated, ends as high as the sine of the angle."""
    line = np.zeros((36, 36, 3), np.uint8)
    line[17:19, 18:] = 255
    heights = []
    for view in range(1, 40):
        column = view_of(png(line), images_params("rotate", rotate=15), view)[0, :, 29].float()
        heights.append(((column * torch.arange(32)).sum() / column.sum()).item() - 15.5)
    reach = 13.5 * np.tan(np.radians(15)) + 0.6
    assert all(abs(height) <= reach for height in heights)
    assert min(heights) < -2
    assert max(heights) > 2


def test_shifts_reach_their_bounds_and_mirror_the_edge() -> None:
    down, right = np.mgrid[0:36, 0:36] * 7
    gradient = np.dstack([down, right, 0 * down]).astype(np.uint8)
    plain = view_of(png(gradient), images_params(), EVALUATION)
    corners = set()
    for view in range(1, 200):
        shifted = view_of(png(gradient), images_params("shift", shift=0.125), view)
        corners.add(int(shifted[0, 16, 16]) - int(plain[0, 16, 16]))
        assert shifted.min() >= 0
        assert set(shifted[0, :, 5].tolist()) <= set(plain[0, :, 5].tolist())
    assert corners == {7 * step for step in range(-4, 5)}


def test_images_of_any_shape_can_be_augmented() -> None:
    random = np.random.default_rng(0)
    for height, width in ((32, 400), (400, 32), (33, 33), (1, 5)):
        data = png(random.integers(0, 255, (height, width, 3), np.uint8))
        for augment in AUGMENTS:
            assert view_of(data, images_params(augment)).shape == (3, 32, 32)


def test_a_large_jpeg_is_decoded_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = np.full((400, 600, 3), (200, 90, 40), np.uint8)
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    sizes = []
    decode = decoding.decode

    def recording(data: bytes, least: int | None = None) -> Pixels:
        pixels = decode(data, least)
        sizes.append(pixels.shape[:2])
        return pixels

    monkeypatch.setattr(decoding, "decode", recording)
    for view in (EVALUATION, 1):  # the same size, so that they can share one decoding
        view_of(jpeg, images_params("crop"), view)
    assert sizes == [(100, 150), (100, 150)]  # twice the 36 pixels before the crop, or more


def test_the_views_of_an_image_share_its_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    decode = decoding.decode

    def recording(data: bytes, least: int | None = None) -> Pixels:
        decoded.append(data)
        return decode(data, least)

    apart = [make_views(view)[number] for number in range(4) for view in (0, 2, 3)]
    monkeypatch.setattr(decoding, "decode", recording)
    several = Views(
        [str(n) for n in range(4)], encode_images(4), PREPROCESS, images_params(), [0, 2, 3], 1
    )
    assert len(several) == 12
    assert all(map(torch.equal, (several[index] for index in range(12)), apart))
    assert decoded == encode_images(4)


def test_normalising_brings_the_weights_mean_to_zero() -> None:
    grey = torch.tensor(PREPROCESS.mean).mul(255).round().byte().view(1, 3, 1, 1).expand(2, 3, 4, 4)
    assert PREPROCESS.normalise(grey).abs().max() < 0.01
    assert PREPROCESS.normalise(grey).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["nearest", "bicubic"])
def test_images_can_be_augmented_with_every_interpolation(name: str) -> None:
    other = PREPROCESS.model_copy(update={"interpolation": name})
    for augment in AUGMENTS:
        view = Views(["one"], encode_images(1), other, images_params(augment), [1], 1)[0]
        assert view.shape == (3, 32, 32)


def test_encoded_images_are_read_by_id_across_shards(tmp_path: Path) -> None:
    rows = [clean_row(str(n), f"image {n}".encode()) for n in range(2 * writer.ROWS)]
    shards.write(tmp_path / "clean", shards.CLEAN, rows)
    stored = views.EncodedImages(tmp_path / "clean", ["1500", "3"])
    assert list(stored) == [b"image 1500", b"image 3"]


def test_an_image_that_the_disk_has_damaged_is_refused(tmp_path: Path) -> None:
    shards.write(
        tmp_path / "clean", shards.CLEAN, [clean_row(key, key.encode() * 9) for key in "ab"]
    )
    zero_bytes_of(b"b" * 9, tmp_path / "clean")
    stored = views.EncodedImages(tmp_path / "clean", ["a", "b"])
    assert stored[0] == b"a" * 9
    with pytest.raises(PipelineError, match=r"has changed on disk: `pipeline doctor --repair`"):
        stored[1]


def test_an_image_that_is_not_in_the_shards_is_an_error(dataset: Path) -> None:
    with pytest.raises(PipelineError, match=r"lacks the image 'gone'.*dvc repro"):
        views.EncodedImages(dataset / "clean", ["gone"])


@pytest.mark.parametrize(("height", "width"), [(1, 200_000), (200_000, 1), (20, 30_000)])
def test_a_very_long_image_is_cropped_to_its_middle(height: int, width: int) -> None:
    pixels = torch.zeros(3, height, width, dtype=torch.uint8)
    pixels[:, height // 2 - 8 : height // 2 + 8, width // 2 - 8 : width // 2 + 8] = 200
    pixels[:, height // 2, width // 2] = 200
    view = PREPROCESS.evaluation()(pixels)
    assert view.shape == (3, PREPROCESS.size, PREPROCESS.size)
    assert view[:, PREPROCESS.size // 2, PREPROCESS.size // 2].float().mean() > 20


@pytest.mark.parametrize("augment", AUGMENTS)
def test_augmented_views_equal_those_of_torchvisions_compose(augment: str) -> None:
    images = images_params(augment)
    ours = make_views(2, seed=5, images=images)
    transforms = v2.Compose(PREPROCESS.augmented(images))
    for number, data in enumerate(encode_images(4)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(augmentation.view_seed(5, str(number), 2))
            expected = transforms(torch.from_numpy(decoding.decode(data)).permute(2, 0, 1))
        assert torch.equal(ours[number], expected)


def test_means_are_copied_to_a_device_once() -> None:
    """A copy for each batch would make the host wait for the device."""
    preprocess = PREPROCESS.model_copy(update={"mean": [0.25, 0.5, 0.75], "std": [0.5] * 3})
    assert torch.equal(
        views._on_accelerator((0.25, 0.5, 0.75), torch.device("cpu")),
        views._per_channel((0.25, 0.5, 0.75), torch.device("cpu")),
    )
    meta = torch.device("meta")
    first = views._per_channel(tuple(preprocess.mean), meta)
    assert views._per_channel(tuple(preprocess.mean), meta) is first
    assert views._per_channel(tuple(preprocess.std), meta) is not first
    assert not first.is_inference()
