"""What features cost: printed before the work starts, which is refused if the disk is too small."""

import math
import shutil
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from pipeline.core import project
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.network.examples import Examples
from pipeline.network.feature_store import Index


@dataclass(frozen=True)
class Price:
    """The size of features, and what an epoch costs without them."""

    index: Index
    images: int
    training: int
    validation: int

    @classmethod
    def of(cls, index: Index, examples: Examples) -> "Price":
        """The price of the features of some images."""
        training, validation = (len(examples.rows(split)) for split in ("train", "val"))
        return cls(index, len(examples), training, validation)

    @property
    def gigabytes(self) -> float:
        return self.index.gigabytes(self.images, self.training)

    @property
    def view_bytes(self) -> int:
        """Bytes of one view of an image."""
        return sum(map(prod, self.index.shapes)) * np.dtype(self.index.dtype).itemsize

    def describe(self) -> str:
        """The size, and what it is of."""
        size, images = format_size(self.gigabytes), plural(self.images, "image")
        if not self.index.views:
            return f"{size} for the evaluation view of {images}"
        views = plural(self.index.views, "augmented view")
        training = plural(self.training, "training image")
        return f"{size} for the evaluation view of {images} and {views} of {training}"

    def describe_streaming(self, limit: float) -> str:
        """What it costs that features past `limit` (GB) are not stored, and how to avoid it."""
        return (
            f"{self.describe()} is more than features.max_gigabytes={limit:g}, so each epoch runs "
            f"the frozen part for {self.training + self.validation} images; "
            f"{self._command(limit)} instead"
        )

    def _command(self, limit: float) -> str:
        views = int((limit * 1e9 / self.view_bytes - self.images) // max(1, self.training))
        if 1 <= views < self.index.views:
            size = (self.images + views * self.training) * self.view_bytes / 1e9
            return f"`dvc exp run -S features.views={views}` stores {format_size(size)}"
        return f"`dvc exp run -S features.max_gigabytes={math.ceil(self.gigabytes)}` stores them"

    def check_disk(self, features: Path, missing: int) -> None:
        """Refuse to start where the disk has no room: for the features, and for the memo.

        Args:
            features: The folder that they replace.
            missing: Views of images that the memo does not have.

        Raises:
            PipelineError: there is less free space than that.
        """
        needed: dict[int, float] = {}  # bytes by file system
        for folder, size in (
            (features.absolute(), self.gigabytes * 1e9),
            (project.cache().absolute(), missing * self.view_bytes),
        ):
            system = _existing(folder)
            number = system.stat().st_dev
            needed[number] = needed.get(number, 0) + size
            free = shutil.disk_usage(system).free
            if needed[number] > free:
                raise PipelineError(
                    f"the features and their memo need {needed[number] / 1e9:.3g} GB on the disk "
                    f"of {system}, where {free / 1e9:.3g} GB are free: make room, or store less "
                    f"with `dvc exp run -S {self._smaller()}`"
                )

    def _smaller(self) -> str:
        if self.index.views > 1:
            return "features.views=1"
        if self.index.dtype == "float32":
            return "features.dtype=float16"
        return "features.max_gigabytes=0"


def format_size(gigabytes: float) -> str:
    """A size in MB below 1 GB, else in GB."""
    return f"{gigabytes:.3g} GB" if gigabytes >= 1 else f"{gigabytes * 1000:.3g} MB"


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
