"""Training images with labels that out-of-fold predictions contradict.

After confident learning (Northcutt et al., 2021): an image looks like a class if its out-of-fold
probability reaches the average of the images of that class.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.commands.suspects import regression
from pipeline.commands.suspects.regression import Regression
from pipeline.core import atomic, columns, shards
from pipeline.core.errors import PipelineError
from pipeline.core.percentages import format_share
from pipeline.core.progress import bar
from pipeline.core.split_csv import read_groups
from pipeline.core.terminal import warn
from pipeline.images import gallery, hand_lists
from pipeline.images.gallery import GalleryImage, data_uri
from pipeline.inference.pooled_features import Features, open_features
from pipeline.network.examples import read_examples
from pipeline.solvers.folds import Folds, stratified_folds
from pipeline.stages.describe import thumbnails

FOLDS = 5
BLOCK_CELLS = 2**21  # images times classes, of a block of probabilities

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]

Probabilities = Callable[[], Iterator[tuple[Rows, Floats]]]
"""Numbers of images (B,) and their probabilities (B, classes), in blocks; called once per pass."""


@dataclass(frozen=True)
class Suspect:
    """A training image that may be labelled wrongly."""

    id: str
    name: str
    label: str
    looks_like: str
    own: float
    """Out-of-fold probability of its label."""
    other: float
    """That of the class that it looks like."""


@dataclass(frozen=True)
class Contradictions:
    """Images whose labels are contradicted, the strongest contradiction first."""

    images: Rows
    looks_like: Labels
    own: Floats
    """Out-of-fold probability of the label."""
    other: Floats
    """That of the class that the image looks like."""


def find_suspects(clean: Path, split_csv: Path, features: Path) -> list[Suspect]:
    """Training images with contradicted labels, the strongest contradiction first.

    Classes that are too small for folds are left out, with a warning.

    Raises:
        PipelineError: no features are stored, or fewer than two classes are large enough.
    """
    examples = read_examples(split_csv, clean)
    rows = examples.rows("train")
    values = open_features(features, examples)
    labels, groups = examples.labels.numpy()[rows], read_groups(split_csv)[rows]
    is_large = large_classes(labels, groups, examples.classes)
    classes = [name for name, large in zip(examples.classes, is_large, strict=True) if large]
    rows, groups, labels = (column[is_large[labels]] for column in (rows, groups, labels))
    labels = (is_large.cumsum() - 1)[labels]
    models = OutOfFold(values, rows, labels, groups, len(classes))
    result = contradicted_labels(labels, models.probabilities)
    ids = examples.ids_of(rows[result.images])
    return [
        Suspect(key, name, classes[label], classes[looks_like], own, other)
        for key, name, label, looks_like, own, other in zip(
            ids,
            _names(clean, ids),
            labels[result.images],
            result.looks_like,
            result.own.tolist(),
            result.other.tolist(),
            strict=True,
        )
    ]


class OutOfFold:
    """Models by fold, each trained without the images of its fold."""

    def __init__(
        self, features: Features, rows: Rows, labels: Labels, groups: Labels, classes: int
    ) -> None:
        """Train the models.

        Args:
            rows: The images' rows in the features, ascending.
            labels: Classes, numbered from 0.
            groups: Numbers of groups: images of one are in the same fold.
            classes: Number of classes.
        """
        self._features = features
        self._rows = rows
        self._labels = labels
        self._classes = classes
        _, groups = np.unique(groups, return_inverse=True)
        self._folds: Folds = stratified_folds(labels, groups, FOLDS)
        self._models: list[Regression] = []
        with bar("suspects", FOLDS, "fold") as progress:
            for fold in range(FOLDS):
                self._models.append(self._fit(fold))
                progress.update()

    def probabilities(self) -> Iterator[tuple[Rows, Floats]]:
        """Yield numbers of images, and their probabilities by the model that has not seen them."""
        for fold, model in enumerate(self._models):
            for images, values in self._blocks(self._folds == fold):
                yield images, model.probabilities(values)

    def _fit(self, fold: int) -> Regression:
        def blocks() -> Iterator[tuple[npt.NDArray[np.float32], Labels]]:
            for images, values in self._blocks(self._folds != fold):
                yield values, self._labels[images]

        return regression.fit(blocks, self._classes)

    def _blocks(
        self, mask: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[Rows, npt.NDArray[np.float32]]]:
        size = min(self._features.block_rows, max(1, BLOCK_CELLS // self._classes))
        for start in range(0, len(mask), size):
            images = start + np.flatnonzero(mask[start : start + size])
            if len(images):
                yield images, self._features.read(self._rows[images])


def large_classes(labels: Labels, groups: Labels, classes: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Whether each class has as many groups as there are folds; warn of those that have not.

    Raises:
        PipelineError: fewer than two classes have.
    """
    count = int(groups.max(initial=0)) + 1
    pairs = np.unique(labels * count + groups)
    group_counts = np.bincount(pairs // count, minlength=len(classes))
    is_large: npt.NDArray[np.bool_] = group_counts >= FOLDS
    small = np.flatnonzero(~is_large).tolist()
    if not small:
        return is_large
    first = (
        f"class {classes[small[0]]!r} has {group_counts[small[0]]} training images that do not "
        f"look alike, and suspects needs {FOLDS}, one per fold"
    )
    if is_large.sum() < 2:
        raise PipelineError(f"{first}: add images")
    warn(f"left out {len(small)} of {len(classes)} classes: {first}")
    return is_large


def contradicted_labels(labels: Labels, probabilities: Probabilities) -> Contradictions:
    """Find the images that look like another class than that of their labels.

    Args:
        probabilities: Out-of-fold probabilities of the images.
    """
    own = np.zeros(len(labels))
    for images, block in probabilities():
        own[images] = block[np.arange(len(images)), labels[images]]
    averages = np.bincount(labels, own) / np.bincount(labels)
    looks_like, other = labels.copy(), own.copy()
    for images, block in probabilities():
        confident = np.where(block >= averages, block, -1.0)
        is_confident = confident.max(axis=1) > 0
        best = confident.argmax(axis=1)[is_confident]
        looks_like[images[is_confident]] = best
        other[images[is_confident]] = block[is_confident, best]
    suspects = np.flatnonzero(looks_like != labels)
    order = suspects[np.argsort(own[suspects] - other[suspects], kind="stable")]
    return Contradictions(order, looks_like[order], own[order], other[order])


def _names(clean: Path, ids: Sequence[str]) -> list[str]:
    table = shards.columns(clean, ["id", "name"])
    rows = columns.positions(columns.texts(ids), table.column("id"))
    return [table.column("name")[row].as_py() for row in rows.tolist()]


@dataclass(frozen=True)
class SuspectsPage:
    """The facts of suspects.html."""

    name: str
    """Of the data set."""
    suspects: list[GalleryImage]
    lines: str
    """Lines for reject.csv."""


def write_page(path: Path, suspects: Sequence[Suspect], clean: Path, dataset: str) -> None:
    """Write a gallery of the suspects, with their lines for reject.csv."""
    pictures = thumbnails.draw_all(clean, {suspect.id for suspect in suspects})
    images = [
        GalleryImage(
            suspect.id,
            suspect.name,
            suspect.label,
            data_uri(pictures.get(suspect.id)),
            f"looks like {suspect.looks_like} ({format_share(suspect.other, 0)})",
        )
        for suspect in suspects
    ]
    rejects = ((suspect.id, f"looks like {suspect.looks_like}") for suspect in suspects)
    page = SuspectsPage(dataset, images, hand_lists.format_rejects(rejects))
    atomic.write_text(path, gallery.render("commands/suspects/suspects.html", page))
