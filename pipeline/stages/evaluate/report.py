"""report.html, the page to send to a colleague: data, quality, failures, use and limits.

One file, pictures inside. DVC's copy leaves out the commit, so that its bytes depend on the results
alone; MLflow's copy has it.
"""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.compute as pc
from PIL import Image

from pipeline.core import shards
from pipeline.core.columns import Column
from pipeline.core.percentages import (
    MIN_IMAGES,
    format_fraction,
    format_interval,
    format_right,
    format_share,
)
from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import scan_split
from pipeline.images import gallery
from pipeline.images.gallery import data_uri
from pipeline.network.model_folder import Card
from pipeline.params import AS_DESCRIBED, Params
from pipeline.stages.evaluate import metrics
from pipeline.stages.evaluate.confusions import (
    Confusion,
    count_confusions,
    describe_most_frequent,
)
from pipeline.stages.evaluate.intervals import ALONE, Groups, Interval
from pipeline.stages.evaluate.metrics import ClassFigures, Figures, ResultFigures, SliceFigures
from pipeline.stages.evaluate.photographs import PicturedSample
from pipeline.stages.evaluate.pictures import Pictures
from pipeline.stages.evaluate.sentences import describe_bootstrap, describe_calibration
from pipeline.stages.evaluate.test_set import TestSetResult

CLASS_FIGURES = ("n", "correct", "precision", "recall", "f1", "roc_auc", "average_precision")
MIN_TEST_IMAGES = 30  # of a class, for figures that mean something
MAX_CONFUSIONS = 5  # in the table
MAX_CLASSES = 30  # in tables and lists


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
    """By class, of those in the tables, then by split."""
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
    """The content of metrics.json."""
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
    selection: str
    """Which classes the tables have, "" if all."""
    class_names: str
    """Those that the model predicts, or the first of many."""
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
    small_classes: str
    """Classes with fewer than `min_test_images` test images, or the first of many."""
    untested_classes: str
    """Classes without test images, or the first of many."""
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
    figures: ResultFigures,
    result: TestSetResult,
    groups: Groups,
    pictures: Pictures,
    *,
    clean: Path,
    split_csv: Path,
) -> Report:
    """Collect the facts of the page."""
    sections = ("images", "model", "features", "head", "train")  # that decide the model
    summary = figures.summary
    confusions = count_confusions(result.labels, result.predicted, result.classes)
    wilson = Interval(summary["accuracy.wilson_low"], summary["accuracy.wilson_high"])
    slices = [_slice(row) for row in figures.slices]
    names = metrics.name_classes(card.classes)
    class_rows, selection = _select_classes(figures.classes)
    counts = [
        *(row.n for row in slices),
        *(n for row in class_rows for n in (row.n, row.predicted)),
    ]
    small = [names[row.label] for row in figures.classes if 0 < row.n < MIN_TEST_IMAGES]
    untested = [names[row.label] for row in figures.classes if not row.n]
    return Report(
        dataset=params.dataset.name,
        source="" if params.dataset.source == AS_DESCRIBED else params.dataset.source,
        params={name: getattr(params, name).model_dump() for name in sections},
        card=card,
        figures=summary,
        accuracy=format_right(summary["correct"], summary["n"]),
        interval=format_interval(wilson.low, wilson.high),
        bootstrap=describe_bootstrap(summary, groups),
        mistakes=describe_most_frequent(confusions),
        roc_auc=_macro("roc_auc", summary),
        calibration_error=_calibration_error(summary),
        calibration=describe_calibration(figures),
        classes=[
            *(ClassRow(names[row.label], _class_cells(row)) for row in class_rows),
            ClassRow("macro average", [_macro(name, summary) for name in CLASS_FIGURES]),
        ],
        selection=selection,
        class_names=_list_names(list(card.classes)),
        has_small_rows=any(count < MIN_IMAGES for count in counts),
        slices=slices,
        confusions=confusions[:MAX_CONFUSIONS],
        more_confusions=max(0, len(confusions) - MAX_CONFUSIONS),
        grouped=bool((groups != ALONE).any()),
        data=_data([row.label for row in class_rows], clean, split_csv),
        charts=pictures.charts,
        photographs={
            name: [_sample(image) for image in images]
            for name, images in pictures.photographs.items()
        },
        provenance={},
        small_classes=_list_names(small),
        untested_classes=_list_names(untested),
    )


def _select_classes(classes: Sequence[ClassFigures]) -> tuple[list[ClassFigures], str]:
    """The classes in the tables, and which they are; "" if all."""
    if len(classes) <= MAX_CLASSES:
        return list(classes), ""
    selection = metrics.select_classes(classes, MAX_CLASSES)
    return [classes[number] for number in selection.numbers], selection.title


def _list_names(names: Sequence[str]) -> str:
    """Names with commas; of many only the first."""
    more = [f"and {len(names) - MAX_CLASSES:,} more"] if len(names) > MAX_CLASSES else []
    return ", ".join([*names[:MAX_CLASSES], *more])


def _calibration_error(figures: Figures) -> str:
    return format_share(figures["ece"]) if figures["n"] >= MIN_IMAGES else "–"


def _macro(figure: str, figures: Figures) -> str:
    """The mean over the classes of a test set of at least `MIN_IMAGES`; empty for counts."""
    name = f"{figure}.macro"
    if name not in figures:
        return ""
    return _format(figures[name]) if figures["n"] >= MIN_IMAGES else "–"


def _class_cells(row: ClassFigures) -> list[str]:
    """Figures of a class; of fewer than `MIN_IMAGES` images, counts or nothing."""
    cells = {name: _format(getattr(row, name)) for name in CLASS_FIGURES}
    if row.n < MIN_IMAGES:
        cells |= dict.fromkeys(("f1", "roc_auc", "average_precision"), "–")
    if 0 < row.n < MIN_IMAGES:
        cells["recall"] = format_right(row.correct, row.n)
    if 0 < row.predicted < MIN_IMAGES:
        cells["precision"] = format_right(row.correct, row.predicted)
    return list(cells.values())


def _format(value: float | str | None) -> str:
    """A cell of the table of classes."""
    if value is None:
        return "–"
    return format_fraction(value) if isinstance(value, float) else str(value)


def _slice(row: SliceFigures) -> SliceRow:
    return SliceRow(row.slice.replace("_", " "), row.n, format_right(row.correct, row.n))


def _sample(image: PicturedSample) -> Sample:
    encoded = io.BytesIO()
    Image.fromarray(image.pixels).save(encoded, "JPEG", quality=85)
    probability = format_share(image.probability, 0)
    return Sample(data_uri(encoded.getvalue()), image.predicted, image.true, probability)


def _data(classes: Sequence[str], clean: Path, split_csv: Path) -> DataFacts:
    counts = {name: Counter[str]() for name in classes}
    for row in scan_split(split_csv):
        if row.label in counts:
            counts[row.label][row.split] += 1
    facts = shards.columns(clean, ["licence", "owner"])
    licences = _count_images(facts.column("licence"), "none stated")
    owners = _count_images(facts.column("owner"), "")
    owned = sorted((owner, count) for owner, count in owners.items() if owner)
    return DataFacts(counts, dict(licences.most_common()), owned)


def _count_images(texts: Column, empty: str) -> Counter[str]:
    """The images with each text, in the order of their first images; `empty` for none."""
    counts = Counter[str]()
    for row in pc.value_counts(texts).to_pylist():  # of the distinct texts
        counts[row["values"] or empty] += row["counts"]
    return counts
