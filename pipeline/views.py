"""What the network sees of an image: the evaluation view, and augmented views.

A view is a pure function of (seed, image id, view number): neither order nor parallelism shows.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode, v2

from pipeline import images, shards

EVALUATION = 0  # the number of the view that nothing random touches; others count from 1
MOST_WORKERS = 8
# Share of the area that a random crop keeps. torchvision's 0.08 often leaves nothing of the thing
# to see; with few cached views that costs more than it teaches (cross-validated on ants/bees).
CROPPED_AREA = (0.5, 1.0)


class Preprocess(BaseModel):
    """From pixels to the network's input; stored with the model."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    size: int
    """Side of the centre crop, in pixels."""
    resize: int
    """Shorter side before the crop, in pixels."""
    interpolation: str
    """As torchvision's InterpolationMode names it."""
    mean: list[float]
    std: list[float]
    """Per channel of RGB, for values in 0..1."""

    def evaluation(self) -> v2.Transform:
        """uint8 (3, H, W) -> uint8 (3, size, size)."""
        mode = InterpolationMode(self.interpolation)
        return v2.Compose([v2.Resize(self.resize, mode), v2.CenterCrop(self.size)])

    def augmented(self) -> v2.Transform:
        """Random resized crop and horizontal flip: uint8 (3, H, W) -> uint8 (3, size, size)."""
        mode = InterpolationMode(self.interpolation)
        crop = v2.RandomResizedCrop(self.size, CROPPED_AREA, interpolation=mode)
        return v2.Compose([crop, v2.RandomHorizontalFlip()])

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 (B, 3, S, S) on any device -> float32 of the same shape, channels last."""
        values = pixels.to(dtype=torch.float32, memory_format=torch.channels_last) / 255
        mean = torch.tensor(self.mean, device=pixels.device)[:, None, None]
        std = torch.tensor(self.std, device=pixels.device)[:, None, None]
        return (values - mean) / std


class Stored(Sequence[bytes]):
    """The encoded images of clean shards, in the order of `ids`, read when they are asked for."""

    def __init__(self, clean: Path, ids: Sequence[str]) -> None:
        self._batches = [shards.read(path) for path in shards.paths(clean)]
        place = {
            key: (number, row)
            for number, batch in enumerate(self._batches)
            for row, key in enumerate(batch.column("id").to_pylist())
        }
        self._places = [place[key] for key in ids]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        number, row = self._places[index]
        return self._batches[number].column("bytes")[row].as_py()


class Views(Dataset[Tensor]):
    """One view of each image: index -> uint8 (3, size, size)."""

    def __init__(
        self, ids: Sequence[str], encoded: Sequence[bytes], preprocess: Preprocess,
        view: int = EVALUATION, seed: int = 0,
    ) -> None:  # fmt: skip
        self.ids = ids
        self.encoded = encoded
        self.view = view
        self.seed = seed
        plain = view == EVALUATION
        self.transform = preprocess.evaluation() if plain else preprocess.augmented()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Tensor:
        pixels = torch.from_numpy(images.decode(self.encoded[index])).permute(2, 0, 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed(self.seed, self.ids[index], self.view))
            view: Tensor = self.transform(pixels)
        return view.contiguous()


def _seed(seed: int, key: str, view: int) -> int:
    digest = hashlib.sha256(f"{seed}:{key}:{view}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # torch wants 63 bits


def batches(views: Views, order: Sequence[Sequence[int]], device: torch.device) -> Iterator[Tensor]:
    """Yield uint8 (B, 3, size, size) for each list of indices in `order`.

    For an accelerator images are decoded in workers. On a CPU the network keeps every core busy,
    and workers beside it were measured to slow it down by half.
    """
    workers = 0 if device.type == "cpu" else min(os.cpu_count() or 1, MOST_WORKERS)
    loader: DataLoader[Tensor] = DataLoader(
        views, batch_sampler=list(map(list, order)), num_workers=workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # or it would draw from the global one, and dropout differ
    )  # fmt: skip
    yield from loader
