"""Data, params and networks of bench.gpu."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from bench.drawn_data import write_data
from pipeline.network import assembly, device, feature_store
from pipeline.network.examples import Examples, read_examples
from pipeline.network.feature_store import Index
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.views import EncodedImages, Views
from pipeline.params import Params, load_params, with_overrides
from pipeline.stages.features import compute, feature_files
from pipeline.stages.train import setup
from pipeline.stages.train.state import Job

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    status: str
    """PASS or FAIL of a check, or `figure`."""
    value: float | None = None
    unit: str = ""
    note: str = ""


def check(name: str, passed: bool, value: float | None = None, note: str = "") -> Row:
    return Row(name, "PASS" if passed else "FAIL", value, "", note)


def figure(name: str, value: float, unit: str, note: str = "") -> Row:
    return Row(name, "figure", value, unit, note)


@dataclass
class Bench:
    """What all parts share."""

    folder: Path
    params: Params
    clean: Path
    split_csv: Path
    examples: Examples
    fabric: Fabric
    tiny: bool
    seconds: float
    """Of a measurement of speed."""
    features: dict[str, Path] = field(default_factory=dict)
    """Folders of computed features, by their name."""

    @classmethod
    def build(cls, folder: Path, backbone: str, weights: str, tiny: bool) -> "Bench":
        """Draw the images, and choose the device."""
        small: dict[str, Any] = {"images.size": 32, "features.views": 1} if tiny else {}
        params = with_overrides(
            load_params(ROOT / "params.yaml"),
            {"model.backbone": backbone, "model.weights": weights} | small,
        )
        fabric = device.start(params.device, alone=True)
        clean, split_csv = write_data(folder, 42 if tiny else 1400)
        examples = read_examples(split_csv, clean)
        return cls(folder, params, clean, split_csv, examples, fabric, tiny, 0.3 if tiny else 8)

    @property
    def device(self) -> torch.device:
        return self.fabric.device

    def override(self, **values: object) -> Params:
        """The params with others; names have `__` for their dot."""
        named = {name.replace("__", "."): value for name, value in values.items()}
        return with_overrides(self.params, named)

    def prefix(
        self, where: torch.device, precision: str = "auto", **values: object
    ) -> FrozenPrefix:
        """The frozen part up to the head, on a device."""
        params = self.override(**values)
        assembled = assembly.assemble(params.model, params.images, params.features.seed)
        return FrozenPrefix(assembled.cut, assembled.preprocess, [where], precision, "float32")

    def views(self, prefix: FrozenPrefix, numbers: tuple[int, ...] = (0,)) -> Views:
        """Views of all images."""
        encoded = EncodedImages(self.clean, self.examples.ids)
        seed = self.params.features.seed
        return Views(encoded.ids, encoded, prefix.preprocess, self.params.images, numbers, seed)

    def pixels(self, prefix: FrozenPrefix, count: int) -> Tensor:
        """Evaluation views, uint8 (count, 3, S, S), on the CPU; images are repeated if few."""
        views = self.views(prefix)
        return torch.stack([views[number % len(views)] for number in range(count)])

    def stored(self, name: str, prefix: FrozenPrefix, params: Params) -> tuple[Path, Index]:
        """Features of the data as the stage computes them; computed once by name."""
        index = compute.describe(params, prefix, self.examples)
        folder = self.folder / f"features {name}"
        if name not in self.features:
            folder.mkdir(exist_ok=True)  # of a part that failed
            feature_store.write_index(folder, index)
            if index.stored:
                settings = compute.FeatureSettings(prefix, params.images, index)
                feature_files.store(folder, self.clean, self.split_csv, settings, self.examples)
            self.features[name] = folder
        return folder, index

    def job(self, params: Params, features: Path, examples: Examples | None = None) -> Job:
        """A training on these features, by default of all images, on `params.device`."""
        examples = examples or self.examples
        assembled = setup.assemble(params, len(examples.classes))
        fabric = device.start(params.device, alone=True)
        return setup.prepare(params, assembled, examples, features, self.clean, fabric)


def relative_error(values: Tensor, reference: Tensor) -> float:
    """The norm of the difference over that of the reference."""
    difference = values.double().cpu() - reference.double().cpu()
    return float(difference.norm() / reference.double().norm())


def synchronize(where: torch.device) -> None:
    """Wait for all work of a device."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)


@contextmanager
def closing_prefix(prefix: FrozenPrefix) -> Iterator[FrozenPrefix]:
    """End its processes after the block."""
    try:
        yield prefix
    finally:
        prefix.close()
