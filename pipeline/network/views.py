"""Views of an image: the evaluation view, and augmented views.

A view is a pure function of (seed, image id, view number); neither order nor parallelism matters.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import local
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2.functional import center_crop

from pipeline.core import columns, shards
from pipeline.core.errors import PipelineError
from pipeline.images import decoding
from pipeline.network.augmentation import augment, view_seed
from pipeline.params import ImagesParams
from pipeline.params.section import InputSide, ResizedSide, Section

MAX_ASPECT = 8  # longer side over shorter side; longer images are cropped first
EVALUATION = 0  # number of the view without augmentation; augmented ones count from 1
MAX_OPEN_SHARDS = 256  # memory-mapped in a process
LAST = local()  # the image that this thread decoded last


Integers = npt.NDArray[np.integer[Any]]


class CropLong(nn.Module):
    """Crop very long images to their middle: resized by the short side, they could fill memory."""

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (3, H, W); the longer side becomes at most `MAX_ASPECT` times the shorter."""
        height, width = pixels.shape[-2:]
        longest = MAX_ASPECT * min(height, width)
        if max(height, width) <= longest:
            return pixels
        middle: Tensor = center_crop(pixels, [min(height, longest), min(width, longest)])
        return middle


Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(ge=0.001, le=1)]


class Preprocess(Section):
    """How pixels become the network's input; stored with the model."""

    size: InputSide
    """Side of the centre crop, in pixels."""
    resize: ResizedSide
    """Shorter side before the crop, in pixels."""
    interpolation: Annotated[str, Field(pattern="^(nearest|nearest-exact|bilinear|bicubic)$")]
    """A value of torchvision's InterpolationMode: one that resizes tensors."""
    mean: Annotated[list[Mean], Field(min_length=3, max_length=3)]
    std: Annotated[list[Deviation], Field(min_length=3, max_length=3)]
    """Per channel of RGB, for values in 0..1."""

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.resize < self.size:
            raise ValueError(f"preprocess.resize = {self.resize} should be at least {self.size}")
        return self

    def evaluation(self) -> v2.Transform:
        """uint8 (3, H, W) -> uint8 (3, size, size)."""
        mode = InterpolationMode(self.interpolation)
        return v2.Compose([CropLong(), v2.Resize(self.resize, mode), v2.CenterCrop(self.size)])

    def augmented(self, params: ImagesParams) -> list[v2.Transform]:
        """The transforms of `images.augment`; together uint8 (3, H, W) -> (3, size, size)."""
        mode = InterpolationMode(self.interpolation)
        crop = v2.RandomResizedCrop(
            self.size, tuple(params.crop_area), tuple(params.crop_ratio), interpolation=mode
        )
        margin = round(params.shift * self.size)
        transforms: dict[str, v2.Transform] = {
            "crop": crop,
            "shift": v2.RandomCrop(self.size, padding=margin, padding_mode="reflect"),
            "rotate": v2.RandomRotation([-params.rotate, params.rotate], _bilinear(mode)),
            "flip": v2.RandomHorizontalFlip(),
            "trivial": v2.TrivialAugmentWide(interpolation=_bilinear(mode)),
        }
        start = [] if "crop" in params.parts else [self.evaluation()]
        return [*start, *(transforms[name] for name in params.parts)]

    @property
    def detail(self) -> int:
        """Shorter side, in pixels, to decode to: a crop of it still has enough detail."""
        return 2 * self.resize

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 (B, 3, S, S) on any device -> float32 of the same shape, channels last."""
        values = pixels.to(dtype=torch.float32, memory_format=torch.channels_last)
        mean, std = (_per_channel(tuple(v), pixels.device) for v in (self.mean, self.std))
        return values.sub_(mean).div_(std)  # in place: allocating copies takes longer


def _per_channel(values: tuple[float, ...], where: torch.device) -> Tensor:
    """(3, 1, 1) Values for pixels in 0..255."""
    if where.type != "cpu":
        return _on_accelerator(values, where)
    return torch.tensor(values)[:, None, None] * 255


@cache
def _on_accelerator(values: tuple[float, ...], where: torch.device) -> Tensor:
    """Copied once: the host would wait for each copy, and the device then for the host."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=where)[:, None, None] * 255


def _bilinear(mode: InterpolationMode) -> InterpolationMode:
    """`mode` for rotations and shears, which support nearest and bilinear only."""
    return (
        InterpolationMode.NEAREST
        if mode is InterpolationMode.NEAREST
        else InterpolationMode.BILINEAR
    )


class EncodedImages(Sequence[bytes]):
    """Encoded images in clean shards, each read when indexed. It pickles as their places."""

    def __init__(self, clean: Path, ids: Sequence[str] | pa.StringArray) -> None:
        """Those with these ids.

        Raises:
            PipelineError: `clean` lacks one.
        """
        paths = shards.paths(clean)
        id_column = ids if isinstance(ids, pa.StringArray) else columns.texts(ids)
        parts = [_copy(shards.read(path).column("id")) for path in paths]  # mapped one at a time
        rows = columns.positions(id_column, pa.chunked_array(parts))
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            raise PipelineError(
                f"{clean} lacks the image {id_column[int(missing[0])].as_py()!r}, which "
                "data/split.csv lists: run `dvc repro`"
            )
        starts = np.cumsum([0, *map(len, parts)])
        shard = np.searchsorted(starts, rows, side="right") - 1
        self._place(paths, shard, rows - starts[shard])

    @classmethod
    def at(cls, places: Sequence[tuple[Path, npt.NDArray[np.int32]]]) -> Self:
        """The images in these rows of these shards."""
        images = cls.__new__(cls)
        counts = [len(rows) for _, rows in places]
        rows = np.concatenate([rows for _, rows in places])
        images._place([path for path, _ in places], np.repeat(np.arange(len(places)), counts), rows)
        return images

    def _place(self, paths: Sequence[Path], shard: Integers, row: Integers) -> None:
        # Absolute: other processes may have been started in another working directory.
        self._paths = [path.absolute() for path in paths]
        self._shard, self._row = shard.astype(np.int32), row.astype(np.int32)
        self._batches: dict[int, pa.RecordBatch] = {}  # by shard

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        data: bytes = self._value(index, "bytes")
        shards.check_bytes([self._value(index, shards.STORED)], [data])
        return data

    @property
    def ids(self) -> "ImageIds":
        return ImageIds(self)

    def name(self, index: int) -> str:
        """What to call an image in an error message."""
        return f"the image {self._value(index, 'name')!r}"

    def _value(self, index: int, column: str) -> Any:
        return self._open(int(self._shard[index])).column(column)[int(self._row[index])].as_py()

    def _open(self, shard: int) -> pa.RecordBatch:
        batch = self._batches.get(shard)
        if batch is None:
            if len(self._batches) >= MAX_OPEN_SHARDS:
                self._batches.clear()
            batch = self._batches[shard] = shards.read(self._paths[shard])
        return batch

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_batches": {}}  # which would be pickled with all their images


def _copy(column: pa.StringArray) -> pa.StringArray:
    """A column in memory, whose file need not stay mapped."""
    return column.take(shards.array(np.arange(len(column))))


class ImageIds(Sequence[str]):
    """The ids of encoded images, each read when indexed."""

    def __init__(self, images: EncodedImages) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._images._value(index, "id")


class Views(Dataset[Tensor]):
    """Views of images, those of one image together: index -> uint8 (3, size, size)."""

    def __init__(
        self,
        ids: Sequence[str],
        encoded: Sequence[bytes],
        preprocess: Preprocess,
        params: ImagesParams | None = None,
        numbers: Sequence[int] = (EVALUATION,),
        seed: int = 0,
    ) -> None:
        """`params` is required for augmented views; the evaluation view needs none."""
        self.ids = ids
        self.encoded = encoded
        self.numbers = numbers
        self.seed = seed
        self.size = preprocess.size
        self.detail = preprocess.detail
        self.key = object()  # distinguishes these views from others in `LAST`
        self.plain = preprocess.evaluation()
        self.augmented = preprocess.augmented(params) if params else None

    def __len__(self) -> int:
        return len(self.encoded) * len(self.numbers)

    def name(self, index: int) -> str:
        """What to call the image of a view in an error message."""
        image = index // len(self.numbers)
        if isinstance(self.encoded, EncodedImages):
            return self.encoded.name(image)
        return f"the image {self.ids[image]}"

    def __getitem__(self, index: int) -> Tensor:
        image, position = divmod(index, len(self.numbers))
        pixels, view = self._decode(image), self.numbers[position]
        if view == EVALUATION:
            plain: Tensor = self.plain(pixels)
            return plain.contiguous()
        assert self.augmented is not None
        return augment(pixels, self.augmented, view_seed(self.seed, self.ids[image], view))

    def _decode(self, image: int) -> Tensor:
        """uint8 (3, H, W). The last image is cached, for its other views."""
        key = (self.key, image)
        if getattr(LAST, "key", None) != key:
            array = decoding.decode(self.encoded[image], self.detail)
            LAST.pixels, LAST.key = torch.from_numpy(array).permute(2, 0, 1), key
        pixels: Tensor = LAST.pixels
        return pixels
