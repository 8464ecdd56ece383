"""report.html, the page to send to a colleague: data, quality, failures, use and limits.

One file, pictures inside. DVC's copy leaves out the commit, so that its bytes depend on the results
alone; MLflow's copy has it.
"""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from pipeline.core import shards
from pipeline.core.percentages import (
    MIN_IMAGES,
    format_fraction,
    format_interval,
    format_right,
    format_share,
)
from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import read_split
from pipeline.images import gallery
from pipeline.images.gallery import data_uri
from pipeline.network.model_folder import Card
from pipeline.params import AS_DESCRIBED, Params
from pipeline.stages.evaluate import metrics, predictions_csv
from pipeline.stages.evaluate.confusions import (
    Confusion,
    count_confusions,
    describe_most_frequent,
)
from pipeline.stages.evaluate.intervals import Interval
from pipeline.stages.evaluate.metrics import Figures
from pipeline.stages.evaluate.photographs import PicturedSample
from pipeline.stages.evaluate.pictures import Pictures
from pipeline.stages.evaluate.predictions_csv import read_predictions
from pipeline.stages.evaluate.sentences import describe_bootstrap, describe_calibration

CLASS_FIGURES = ("n", "correct", "precision", "recall", "f1", "roc_auc", "average_precision")
MIN_TEST_IMAGES = 30  # of a class, for figures that mean something
MAX_CONFUSIONS = 5  # in the table


@dataclass(frozen=True)
class ClassRow:
    """A row of the table of classes."""

    name: str
    cells: Sequence[str]
    """By `CLASS_FIGURES`."""


@dataclass(frozen=True)
class SliceRow:
    """A row of the table of slices."""

    name: str
    n: int
    accuracy: str


@dataclass(frozen=True)
class Sample:
    """A test image on the page."""

    picture: str
    """A data URI."""
    predicted: str
    label: str
    probability: str
    """Of the predicted class."""


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
    accuracy: str
    """A percentage, or counts such as "3 of 4"."""
    interval: str
    """Wilson's, of the accuracy."""
    bootstrap: str
    """A sentence on the interval of groups."""
    mistakes: str
    """A sentence on the most frequent."""
    roc_auc: str
    """The mean over the classes, or "–"."""
    calibration_error: str
    calibration: str
    """A sentence on it."""
    classes: Sequence[ClassRow]
    """With a row of averages at the end."""
    has_small_rows: bool
    """Whether counts stand for percentages somewhere in the tables."""
    slices: Sequence[SliceRow]
    confusions: Sequence[Confusion]
    """The most frequent first, at most `MAX_CONFUSIONS`."""
    more_confusions: int
    """Kinds of mistakes that are left out."""
    grouped: bool
    """Whether some test images are not independent."""
    data: DataFacts
    charts: Mapping[str, str]
    """As SVG, by name; names in them are escaped."""
    photographs: Mapping[str, Sequence[Sample]]
    """By name."""
    provenance: Mapping[str, str]
    """Digests of the data and, if known, the commit."""
    small_classes: Sequence[str]
    """Classes with fewer than `min_test_images` test images."""
    min_test_images: int = MIN_TEST_IMAGES
    min_images: int = MIN_IMAGES
    columns: Sequence[str] = CLASS_FIGURES
    """Of the table of classes."""

    def html(self, provenance: Mapping[str, str]) -> str:
        """The page with this provenance."""
        facts = replace(self, provenance=provenance)
        return gallery.render("stages/evaluate/report.html", facts)


def collect(
    params: Params,
    card: Card,
    figures: Figures,
    pictures: Pictures,
    *,
    test: Path,
    clean: Path,
    split_csv: Path,
) -> Report:
    """Collect the facts of the page.

    Args:
        test: The folder with predictions.csv.
    """
    names = ("images", "model", "features", "head", "train")  # the sections that decide the model
    predictions = read_predictions(test / predictions_csv.NAME)
    groups = [row.group for row in predictions]
    confusions = count_confusions(predictions)
    wilson = Interval(figures["accuracy.wilson_low"], figures["accuracy.wilson_high"])
    slices = _slices(figures)
    classes = list(metrics.name_classes(card.classes).values())
    counts = [figures[f"{key}.{name}"] for key in ("n", "predicted") for name in classes]
    return Report(
        dataset=params.dataset.name,
        source="" if params.dataset.source == AS_DESCRIBED else params.dataset.source,
        params={name: getattr(params, name).model_dump() for name in names},
        card=card,
        figures=figures,
        accuracy=format_right(figures["correct"], figures["n"]),
        interval=format_interval(wilson.low, wilson.high),
        bootstrap=describe_bootstrap(figures, groups),
        mistakes=describe_most_frequent(confusions),
        roc_auc=_macro("roc_auc", figures),
        calibration_error=_calibration_error(figures, "ece"),
        calibration=describe_calibration(figures),
        classes=_classes(classes, figures),
        has_small_rows=min([*counts, *(row.n for row in slices)]) < MIN_IMAGES,
        slices=slices,
        confusions=confusions[:MAX_CONFUSIONS],
        more_confusions=max(0, len(confusions) - MAX_CONFUSIONS),
        grouped=any(groups),
        data=_data(card.classes, clean, split_csv),
        charts=pictures.charts,
        photographs={
            name: [_sample(image) for image in images]
            for name, images in pictures.photographs.items()
        },
        provenance={},
        small_classes=[name for name in classes if figures[f"n.{name}"] < MIN_TEST_IMAGES],
    )


def _calibration_error(figures: Figures, name: str) -> str:
    return format_share(figures[name]) if figures["n"] >= MIN_IMAGES else "–"


def _classes(names: Sequence[str], figures: Figures) -> list[ClassRow]:
    rows = [ClassRow(name, _class_cells(name, figures)) for name in names]
    macro = [_macro(figure, figures) for figure in CLASS_FIGURES]
    return [*rows, ClassRow("macro average", macro)]


def _macro(figure: str, figures: Figures) -> str:
    """The mean over the classes of a test set of at least `MIN_IMAGES`; empty for counts."""
    name = f"{figure}.macro"
    if name not in figures:
        return ""
    return _format(figures[name]) if figures["n"] >= MIN_IMAGES else "–"


def _class_cells(name: str, figures: Figures) -> list[str]:
    """Figures of a class; of fewer than `MIN_IMAGES` images, counts or nothing."""
    right, count, predicted = (figures[f"{key}.{name}"] for key in ("correct", "n", "predicted"))
    cells = {figure: _format(figures[f"{figure}.{name}"]) for figure in CLASS_FIGURES}
    if count < MIN_IMAGES:
        cells |= dict.fromkeys(("f1", "roc_auc", "average_precision"), "–")
    if 0 < count < MIN_IMAGES:
        cells["recall"] = format_right(right, count)
    if 0 < predicted < MIN_IMAGES:
        cells["precision"] = format_right(right, predicted)
    return list(cells.values())


def _format(value: float | str | None) -> str:
    """A cell of the table of classes."""
    if value is None:
        return "–"
    return format_fraction(value) if isinstance(value, float) else str(value)


def _slices(figures: Figures) -> list[SliceRow]:
    start = "accuracy.slice."
    names = [key.removeprefix(start) for key in figures if key.startswith(start)]
    return [
        SliceRow(
            name.replace("_", " "),
            count := figures[f"n.slice.{name}"],
            format_right(round(figures[start + name] * count), count),
        )
        for name in names
    ]


def _sample(image: PicturedSample) -> Sample:
    encoded = io.BytesIO()
    Image.fromarray(image.pixels).save(encoded, "JPEG", quality=85)
    probability = format_share(image.probability, 0)
    return Sample(data_uri(encoded.getvalue()), image.predicted, image.true, probability)


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
