from pathlib import Path

import cv2
import pytest
import torch
from torch import Tensor

from pipeline.network.examples import read_examples
from pipeline.network.feature_store import Index
from pipeline.network.views import EncodedImages, Preprocess, Views
from pipeline.params import Params, with_overrides
from pipeline.stages.train import augmented_png
from tests.builders.features import feature_index

PREPROCESS = Preprocess(size=32, resize=32, interpolation="bilinear", mean=[0.0] * 3, std=[1.0] * 3)


def index(augment: str, views: int, prefix: str = "frozen") -> Index:
    return feature_index(augment=augment, views=views, prefix=prefix)


def draw(dataset: Path, params: Params, features: Index) -> Tensor:
    examples = read_examples(dataset / "split.csv", dataset / "clean")
    augment = {"images.augment": features.augment, "features.views": features.views}
    images = with_overrides(params, augment).images
    return augmented_png.draw(dataset / "clean", examples, PREPROCESS, images, features)


@pytest.mark.parametrize(
    ("features", "columns"),
    [
        (index("crop-flip", 2), 3),
        (index("crop-flip", 30), augmented_png.COLUMNS),
        (index("crop-flip", 0, ""), augmented_png.COLUMNS),
        (index("none", 0), 1),
    ],
    ids=["cached", "many cached", "streamed", "not augmented"],
)
def test_it_has_a_row_per_image_and_a_column_per_view(
    dataset: Path, params: Params, features: Index, columns: int
) -> None:
    tile = 32 + 2
    assert draw(dataset, params, features).shape == (
        3,
        augmented_png.ROWS * tile + 2,
        columns * tile + 2,
    )


def test_its_tiles_are_views_of_training_images(dataset: Path, params: Params) -> None:
    grid = draw(dataset, params, index("crop-flip", 2))
    examples = read_examples(dataset / "split.csv", dataset / "clean")
    ids = examples.ids_of(examples.rows("train"))
    views = Views(ids, EncodedImages(dataset / "clean", ids), PREPROCESS, params.images, [1], 1)
    assert torch.equal(grid[:, 2:34, 36:68], views[0])
    assert torch.equal(grid[:, 36:68, 36:68], views[1])


def test_the_file_has_the_same_pixels(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    augmented_png.write(tmp_path / "reports/augmented.png", pixels)
    bgr = cv2.imread(str(tmp_path / "reports/augmented.png"))
    assert bgr is not None
    assert torch.equal(torch.from_numpy(bgr[:, :, ::-1].copy()).permute(2, 0, 1), pixels)
