"""report.html, the page to send to a colleague: data, quality, failures, use and limits.

One file, pictures inside. DVC's copy leaves out the commit, so that its bytes depend on the results
alone; MLflow's copy has it.
"""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from pipeline.core import shards
from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import read_split
from pipeline.images import gallery
from pipeline.network.model_folder import Card
from pipeline.params import AS_DESCRIBED, Params
from pipeline.stages.evaluate import predictions_csv
from pipeline.stages.evaluate.metrics import Figures
from pipeline.stages.evaluate.predictions_csv import PredictionRow, read_predictions

CLASS_FIGURES = ("n", "correct", "precision", "recall", "f1", "roc_auc", "average_precision")
PICTURES = (
    "curves",
    "confusion",
    "thresholds",
    "reliability",
    "samples",
    "mistakes",
    "gradcam",
    "embedding",
)
PHOTOGRAPHS = ("samples", "mistakes", "gradcam")  # ten times smaller as JPEG than as PNG
MIN_TEST_IMAGES = 30  # of a class, for figures that mean something
MAX_CONFUSIONS = 5


@dataclass(frozen=True)
class ClassFigures:
    """A row of the table of classes."""

    name: str
    figures: Mapping[str, float | None]
    """By the names of `CLASS_FIGURES`."""


@dataclass(frozen=True)
class SliceFigures:
    """A row of the table of slices."""

    name: str
    n: int
    accuracy: float


@dataclass(frozen=True)
class Confusion:
    """A kind of mistake."""

    label: str
    predicted: str
    count: int


@dataclass(frozen=True)
class DataFacts:
    """The images of all splits."""

    counts: Mapping[str, Mapping[str, int]]
    """By class, then by split."""
    licences: Mapping[str, int]
    """Images by licence, the most frequent first."""
    owners: Sequence[tuple[str, int]]
    """Names and numbers of images, by name; images without an owner are left out."""
    splits: Sequence[str] = SPLITS


@dataclass(frozen=True)
class Report:
    """The facts on the page."""

    dataset: str
    source: str
    """The address that the params name, or empty."""
    params: Mapping[str, Mapping[str, object]]
    """Sections of the params, listed in full."""
    card: Card
    figures: Figures
    classes: Sequence[ClassFigures]
    macro: Mapping[str, float | None]
    """Averages over the classes, by the names of `CLASS_FIGURES` that have one."""
    slices: Sequence[SliceFigures]
    confusions: Sequence[Confusion]
    """The most frequent first."""
    grouped: bool
    """Whether some test images are not independent."""
    data: DataFacts
    pictures: Mapping[str, str]
    """Data URIs by the names of `PICTURES`."""
    provenance: Mapping[str, str]
    """Digests of the data and, if known, the commit."""
    small_classes: Sequence[str]
    """Classes with fewer than `min_test_images` test images."""
    min_test_images: int = MIN_TEST_IMAGES
    columns: Sequence[str] = CLASS_FIGURES
    """Of the table of classes."""

    def html(self, provenance: Mapping[str, str]) -> str:
        """The page with this provenance."""
        facts = replace(self, provenance=provenance)
        return gallery.render("stages/evaluate/report.html", facts)


def collect(
    params: Params, card: Card, figures: Figures, *, test: Path, clean: Path, split_csv: Path
) -> Report:
    """Collect the facts of the page.

    Args:
        test: The folder with predictions.csv and the pictures.
    """
    names = ("images", "model", "features", "head", "train")  # the sections that decide the model
    predictions = read_predictions(test / predictions_csv.NAME)
    return Report(
        dataset=params.dataset.name,
        source="" if params.dataset.source == AS_DESCRIBED else params.dataset.source,
        params={name: getattr(params, name).model_dump() for name in names},
        card=card,
        figures=figures,
        classes=_classes(card.classes, figures),
        macro={name: figures[key] for name in CLASS_FIGURES if (key := f"{name}.macro") in figures},
        slices=_slices(figures),
        confusions=_confusions(predictions),
        grouped=any(row.group for row in predictions),
        data=_data(card.classes, clean, split_csv),
        pictures={name: _embed(test / f"{name}.png") for name in PICTURES},
        provenance={},
        small_classes=[name for name in card.classes if figures[f"n.{name}"] < MIN_TEST_IMAGES],
    )


def _classes(names: Sequence[str], figures: Figures) -> list[ClassFigures]:
    return [
        ClassFigures(name, {figure: figures[f"{figure}.{name}"] for figure in CLASS_FIGURES})
        for name in names
    ]


def _slices(figures: Figures) -> list[SliceFigures]:
    start = "accuracy.slice."
    names = [key.removeprefix(start) for key in figures if key.startswith(start)]
    return [
        SliceFigures(name.replace("_", " "), figures[f"n.slice.{name}"], figures[start + name])
        for name in names
    ]


def _confusions(predictions: Sequence[PredictionRow]) -> list[Confusion]:
    mistakes = [(row.label, row.predicted) for row in predictions if row.label != row.predicted]
    return [
        Confusion(label, predicted, count)
        for (label, predicted), count in Counter(mistakes).most_common(MAX_CONFUSIONS)
    ]


def _data(classes: Sequence[str], clean: Path, split_csv: Path) -> DataFacts:
    counts = {name: Counter[str]() for name in classes}
    for row in read_split(split_csv):
        counts[row.label][row.split] += 1
    facts = shards.columns(clean, ["licence", "owner"])
    licences = facts.column("licence").to_pylist()
    owners = facts.column("owner").to_pylist()
    return DataFacts(
        counts,
        dict(Counter(licence or "none stated" for licence in licences).most_common()),
        sorted(Counter(owner for owner in owners if owner).items()),
    )


def _embed(picture: Path) -> str:
    """A data URI of a picture."""
    content, kind = picture.read_bytes(), "png"
    if picture.stem in PHOTOGRAPHS:
        encoded = io.BytesIO()
        Image.open(picture).convert("RGB").save(encoded, "JPEG", quality=85)
        content, kind = encoded.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
