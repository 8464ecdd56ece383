"""What the network sees of an image: the evaluation view, and augmented views.

A view is a pure function of (seed, image id, view number): neither order nor parallelism shows.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock, local
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2.functional import center_crop

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.images import decoding
from pipeline.params import ImagesParams

MAX_ASPECT = 8  # times the shorter side: what is resized whole
EVALUATION = 0  # the number of the view that nothing random touches; others count from 1
LAST = local()  # the image that a thread decoded last
CHANCE = Lock()  # the transforms draw from torch's one global generator


class Strip(nn.Module):
    """The middle of a very long image, of which no more is seen: whole, and resized by its shorter
    side, it could fill the memory."""

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (3, H, W), whose longer side then is at most `LONGEST` times the shorter one."""
        height, width = pixels.shape[-2:]
        longest = MAX_ASPECT * min(height, width)
        if max(height, width) <= longest:
            return pixels
        middle: Tensor = center_crop(pixels, [min(height, longest), min(width, longest)])
        return middle


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
        return v2.Compose([Strip(), v2.Resize(self.resize, mode), v2.CenterCrop(self.size)])

    def augmented(self, params: ImagesParams) -> list[v2.Transform]:
        """The parts of `images.augment` in order; together uint8 (3, H, W) -> (3, size, size)."""
        mode = InterpolationMode(self.interpolation)
        crop = v2.RandomResizedCrop(
            self.size, tuple(params.crop_area), tuple(params.crop_ratio), interpolation=mode
        )
        margin = round(params.shift * self.size)
        known: dict[str, v2.Transform] = {
            "crop": crop,
            "shift": v2.RandomCrop(self.size, padding=margin, padding_mode="reflect"),
            "rotate": v2.RandomRotation([-params.rotate, params.rotate], _bilinear(mode)),
            "flip": v2.RandomHorizontalFlip(),
            "trivial": v2.TrivialAugmentWide(interpolation=_bilinear(mode)),
        }
        start = [] if "crop" in params.parts else [self.evaluation()]
        return [*start, *(known[part] for part in params.parts)]

    @property
    def detail(self) -> int:
        """Shorter side, in pixels, that shows all the detail a view needs, a crop's too."""
        return 2 * self.resize

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 (B, 3, S, S) on any device -> float32 of the same shape, channels last."""
        values = pixels.to(dtype=torch.float32, memory_format=torch.channels_last)
        mean = torch.tensor(self.mean, device=pixels.device)[:, None, None] * 255
        std = torch.tensor(self.std, device=pixels.device)[:, None, None] * 255
        return values.sub_(mean).div_(std)  # in place: each pass over them takes its time


def _bilinear(mode: InterpolationMode) -> InterpolationMode:
    """Turning and shearing know no other way to blend pixels."""
    return (
        InterpolationMode.NEAREST
        if mode is InterpolationMode.NEAREST
        else InterpolationMode.BILINEAR
    )


class Stored(Sequence[bytes]):
    """The encoded images of clean shards, in the order of `ids`, read when they are asked for."""

    def __init__(self, clean: Path, ids: Sequence[str]) -> None:
        self._batches = [shards.read(path) for path in shards.paths(clean)]
        place = {
            key: (number, row)
            for number, batch in enumerate(self._batches)
            for row, key in enumerate(batch.column("id").to_pylist())
        }
        try:
            self._places = [place[key] for key in ids]
        except KeyError as error:
            raise PipelineError(
                f"{clean} lacks the image {error}, which data/split.csv has: run `dvc repro`"
            ) from error

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        number, row = self._places[index]
        return self._batches[number].column("bytes")[row].as_py()


class Views(Dataset[Tensor]):
    """Views of images, all of one image's after another: index -> uint8 (3, size, size)."""

    def __init__(
        self,
        ids: Sequence[str],
        encoded: Sequence[bytes],
        preprocess: Preprocess,
        params: ImagesParams | None = None,
        numbers: Sequence[int] = (EVALUATION,),
        seed: int = 0,
    ) -> None:
        """`chosen` says how views are augmented; the evaluation view needs none."""
        self.ids = ids
        self.encoded = encoded
        self.numbers = numbers
        self.seed = seed
        self.detail = preprocess.detail
        self.mark = object()  # tells these views from others
        self.plain = preprocess.evaluation()
        self.augmented = preprocess.augmented(params) if params else None

    def __len__(self) -> int:
        return len(self.ids) * len(self.numbers)

    def __getitem__(self, index: int) -> Tensor:
        image, place = divmod(index, len(self.numbers))
        pixels, view = self._decoded(image), self.numbers[place]
        if view == EVALUATION:
            plain: Tensor = self.plain(pixels)
            return plain.contiguous()
        assert self.augmented is not None
        return _augmented(pixels, self.augmented, _seed(self.seed, self.ids[image], view))

    def _decoded(self, image: int) -> Tensor:
        """uint8 (3, H, W). The last one is kept, for its other views."""
        wanted = (self.mark, image)
        if getattr(LAST, "what", None) != wanted:
            pixels = decoding.decode(self.encoded[image], self.detail)
            LAST.pixels, LAST.what = torch.from_numpy(pixels).permute(2, 0, 1), wanted
        kept: Tensor = LAST.pixels
        return kept


def _augmented(pixels: Tensor, transforms: Sequence[Any], seed: int) -> Tensor:
    """As `v2.Compose(transforms)` would after `torch.manual_seed(seed)`, to the last bit.

    Draws come from torch's one generator, so others wait meanwhile; for the work they need not.
    """
    # torch.manual_seed also asks after every accelerator, and takes longer than the flip.
    state = torch.Generator().manual_seed(seed).get_state()
    for transform in transforms:
        with CHANCE, torch.random.fork_rng(devices=[]):
            torch.default_generator.set_state(state)
            work = _drawn(transform, pixels)
            state = torch.default_generator.get_state()
        pixels = work(pixels)
    return pixels.contiguous()


def _drawn(transform: Any, pixels: Tensor) -> Callable[[Tensor], Tensor]:
    """What is left to do of a transform once chance has been asked."""
    if isinstance(transform, v2.RandomHorizontalFlip):
        flips = bool(torch.rand(1) < transform.p)
        return partial(transform.transform, params={}) if flips else _same
    if isinstance(transform, v2.RandomResizedCrop | v2.RandomCrop | v2.RandomRotation):
        return partial(transform.transform, params=transform.make_params([pixels]))
    done: Tensor = transform(pixels)  # it draws while it works
    return lambda _: done


def _same(pixels: Tensor) -> Tensor:
    return pixels


def _seed(seed: int, key: str, view: int) -> int:
    digest = hashlib.sha256(f"{seed}:{key}:{view}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # torch wants 63 bits
