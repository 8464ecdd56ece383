"""The frozen part at work: from views of images to what crosses the cut."""

import hashlib
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional

from pipeline import weights
from pipeline.cut import Cut, Tensors
from pipeline.views import Preprocess

BATCH = 32  # always this many, padded: an image's values do not depend on its company


@dataclass(frozen=True)
class Frozen:
    """uint8 (B, 3, S, S) -> float32 tensors (B, ...), the suffix's inputs, without gradients."""

    cut: Cut
    preprocess: Preprocess
    fabric: Fabric
    dtype: torch.dtype
    """What the values are rounded to, whether they are stored or not."""

    def to_device(self) -> "Frozen":
        if self.cut.prefix is not None:
            self.cut.prefix.to(self.fabric.device).to(memory_format=torch.channels_last)
        return self

    def __call__(self, pixels: Tensor) -> Tensors:
        parts = [self._forward(part) for part in torch.split(pixels, BATCH)]
        return tuple(torch.cat(values) for values in zip(*parts, strict=True))

    @torch.no_grad()  # not inference_mode: its tensors may not enter backward
    def _forward(self, pixels: Tensor) -> Tensors:
        images = self.preprocess.normalise(self.fabric.to_device(pixels))
        if self.cut.prefix is None:
            return (images,)
        count = len(images)
        padded = functional.pad(images, (0, 0, 0, 0, 0, 0, 0, BATCH - count))
        with self.fabric.autocast():
            values = self.cut.prefix(padded.contiguous(memory_format=torch.channels_last))
        return tuple(value[:count].to(self.dtype).float() for value in values)

    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of what crosses the cut, per image."""
        size = self.preprocess.size
        return [tuple(value.shape[1:]) for value in self(torch.zeros(1, 3, size, size).byte())]

    def digest(self) -> str:
        """Identity of the prefix: its operations and its weights, in hex."""
        prefix = self.cut.prefix
        if prefix is None:
            return ""
        facts = f"{prefix.code} {prefix} {weights.digest(prefix.state_dict())}"
        return hashlib.sha256(facts.encode()).hexdigest()
