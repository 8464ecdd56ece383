"""The page of `pipeline drift`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.commands.drift.comparison import DriftComparison
from pipeline.commands.drift.distances import FAR
from pipeline.commands.drift.drift import Drift
from pipeline.core import atomic
from pipeline.core.percentages import format_share
from pipeline.images import gallery
from pipeline.images.gallery import GalleryImage, data_uri
from pipeline.stages.describe import thumbnails

MAX_IMAGES = 36  # on the page


@dataclass(frozen=True)
class DriftRow:
    """A class in the table."""

    name: str
    images: int
    far: int
    share: str
    width: str
    """Of a bar, in CSS."""
    held_out: str
    is_far: bool


@dataclass(frozen=True)
class DriftPage:
    """The facts of drift.html."""

    name: str
    """Of the data set."""
    comparison: DriftComparison
    sentences: Sequence[str]
    auc: str
    p: str
    far_share: str
    accuracy: str
    interval: str
    test_accuracy: str
    classes: Sequence[DriftRow]
    images: Sequence[GalleryImage]
    left_out: Mapping[str, int]
    expected: str
    """The share of images that would be far if they were like the held-out ones."""


def write_page(path: Path, drift: Drift, dataset: str) -> None:
    """Write the page."""
    comparison, estimate = drift.comparison, drift.accuracy
    test = comparison.classifier
    page = DriftPage(
        dataset,
        comparison,
        drift.sentences(),
        format_share(test.auc) if test else "–",
        f"p = {test.p:.2g}" if test else "too few images",
        format_share(comparison.far.share, 0),
        format_share(estimate.accuracy),
        drift.describe_interval(),
        format_share(estimate.test_accuracy),
        _class_rows(comparison),
        _furthest(drift),
        drift.new.left_out,
        format_share(FAR, 0),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, gallery.render("commands/drift/drift.html", page))


def _class_rows(comparison: DriftComparison) -> list[DriftRow]:
    return [
        DriftRow(
            count.name,
            count.images,
            count.far,
            format_share(count.share, 0),
            f"{100 * count.share:.1f}%",
            f"{count.other_far} of {count.other_images}",
            count.name in comparison.far_classes,
        )
        for count in comparison.classes
    ]


def _furthest(drift: Drift) -> list[GalleryImage]:
    """The furthest images, the furthest first."""
    far = np.flatnonzero(drift.comparison.is_far)
    order = np.argsort(-drift.comparison.distances[far], kind="stable")
    rows = far[order][:MAX_IMAGES].tolist()
    new = drift.new
    ids = {new.ids[row] for row in rows}
    pictures = thumbnails.draw_all(new.clean, ids) if new.clean and ids else {}
    return [
        GalleryImage(
            new.ids[row],
            new.names[row],
            new.answers.classes[row],
            data_uri(pictures.get(new.ids[row])),
            f"{format_share(float(new.answers.confidence[row]), 0)} sure",
        )
        for row in rows
    ]
