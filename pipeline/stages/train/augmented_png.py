"""A look at what training shows the network."""

from pathlib import Path

import cv2
import torch
from torch import Tensor
from torchvision.utils import make_grid

from pipeline.core import atomic
from pipeline.network import views
from pipeline.network.examples import Examples
from pipeline.network.feature_store import Index
from pipeline.network.views import Preprocess, Views
from pipeline.params import ImagesParams

ROWS = 8  # images
COLUMNS = 8  # epochs


def augmented(
    clean: Path, examples: Examples, preprocess: Preprocess, params: ImagesParams, index: Index
) -> Tensor:
    """uint8 (3, height, width): a row per training image, as its first epochs show it."""
    ids = [examples.ids[row] for row in examples.rows("train")[:ROWS]]
    encoded = views.EncodedImages(clean, ids)
    shown = sorted({index.view_of(epoch) for epoch in range(COLUMNS)})
    seen = Views(ids, encoded, preprocess, params, shown, index.seed)
    tiles = torch.stack([seen[number] for number in range(len(seen))])
    grid: Tensor = make_grid(tiles, nrow=len(shown), padding=2, pad_value=255)
    return grid


def write(path: Path, pixels: Tensor) -> None:
    """A PNG."""
    bgr = pixels.permute(1, 2, 0).numpy()[:, :, ::-1]
    with atomic.replacing(path) as staged:
        staged.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
