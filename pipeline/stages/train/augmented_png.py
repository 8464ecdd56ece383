"""augmented.png: training images as the network sees them."""

from pathlib import Path

import cv2
import torch
from torch import Tensor
from torchvision.utils import make_grid

from pipeline.core import atomic
from pipeline.network.examples import Examples
from pipeline.network.feature_store import Index
from pipeline.network.views import EncodedImages, Preprocess, Views
from pipeline.params import ImagesParams

ROWS = 8  # images
COLUMNS = 8  # epochs


def draw(
    clean: Path, examples: Examples, preprocess: Preprocess, params: ImagesParams, index: Index
) -> Tensor:
    """uint8 (3, height, width): a row per training image, a column per view of the first epochs."""
    ids = examples.ids_of(examples.rows("train")[:ROWS])
    numbers = sorted({index.view_of(epoch) for epoch in range(COLUMNS)})
    views = Views(ids, EncodedImages(clean, ids), preprocess, params, numbers, index.seed)
    tiles = torch.stack([views[number] for number in range(len(views))])
    grid: Tensor = make_grid(tiles, nrow=len(numbers), padding=2, pad_value=255)
    return grid


def write(path: Path, pixels: Tensor) -> None:
    """Write pixels, uint8 (3, height, width), as PNG."""
    bgr = pixels.permute(1, 2, 0).numpy()[:, :, ::-1]
    with atomic.replacing(path) as staged:
        staged.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
