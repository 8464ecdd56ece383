"""Training images with labels that out-of-fold predictions contradict.

After confident learning (Northcutt et al., 2021): an image looks like a class if its out-of-fold
probability reaches the average of the images of that class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.core import atomic, shards
from pipeline.core.errors import PipelineError
from pipeline.core.percentages import format_share
from pipeline.core.progress import bar
from pipeline.core.split_csv import read_split
from pipeline.images import gallery, reject_list
from pipeline.images.gallery import GalleryImage, data_uri
from pipeline.network import feature_store
from pipeline.network.examples import Examples, read_examples
from pipeline.network.views import EVALUATION
from pipeline.stages.describe import thumbnails

FOLDS = 5
MAX_ITERATIONS = 1000
INVERSE_PENALTY = 0.01  # small: many features, few images

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


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


def find_suspects(clean: Path, split_csv: Path, features: Path) -> list[Suspect]:
    """Training images with contradicted labels, the strongest contradiction first.

    Raises:
        PipelineError: no features are stored, or a class is too small for folds.
    """
    examples = read_examples(split_csv, clean)
    rows = examples.rows("train")
    values = read_features(features, examples, rows)
    labels = examples.labels[rows].numpy()
    group_of = {row.id: row.group for row in read_split(split_csv)}
    groups = [group_of[examples.ids[row]] or examples.ids[row] for row in rows]
    probabilities = out_of_fold(values, labels, groups, examples.classes)
    names = _names(clean)
    return [
        Suspect(
            key := examples.ids[rows[index]],
            names[key],
            examples.classes[labels[index]],
            examples.classes[other],
            float(probabilities[index, labels[index]]),
            float(probabilities[index, other]),
        )
        for index, other in contradicted_labels(labels, probabilities)
    ]


def read_features(
    features: Path, examples: Examples, rows: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Features of the evaluation view, (len(rows), D); feature maps are averaged."""
    index = feature_store.read_index(features)
    feature_store.check_images(features, index, examples)
    if not index.stored:
        raise PipelineError(
            f"{features} has no features ({index.why}), and suspects needs them: run "
            "with `-S model.trainable=head` first"
        )
    tensors = []
    for tensor in range(len(index.shapes)):
        array = np.load(feature_store.array_path(features, EVALUATION, tensor), mmap_mode="r")
        values = np.asarray(array[rows], np.float32)
        if values.ndim == 4:  # (N, C, H, W)
            values = values.mean(axis=(2, 3))
        tensors.append(values.reshape(len(rows), -1))
    return np.concatenate(tensors, axis=1)


def out_of_fold(
    values: npt.NDArray[np.float32], labels: Labels, groups: Sequence[str], classes: Sequence[str]
) -> Floats:
    """Probabilities, (N, classes), by models trained without images of the same group.

    Raises:
        PipelineError: a class has fewer groups than there are folds.
    """
    for number, name in enumerate(classes):
        in_class = (label == number for label in labels)
        class_groups = set(compress(groups, in_class))
        if len(class_groups) < FOLDS:
            raise PipelineError(
                f"class {name!r} has {len(class_groups)} training images that do not look alike, "
                f"and suspects needs {FOLDS}, one per fold: add images"
            )
    regression = LogisticRegression(C=INVERSE_PENALTY, max_iter=MAX_ITERATIONS)
    model = make_pipeline(StandardScaler(), regression)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    probabilities = np.zeros((len(labels), len(classes)))
    with bar("suspects", FOLDS, "fold") as progress:
        for train, test in folds.split(values, labels, groups):
            model.fit(values[train], labels[train])
            probabilities[test] = model.predict_proba(values[test])
            progress.update()
    return probabilities


def contradicted_labels(labels: Labels, probabilities: Floats) -> list[tuple[int, int]]:
    """Index of each image with a contradicted label, and the class that it looks like."""
    count = probabilities.shape[1]
    averages = np.array([probabilities[labels == c, c].mean() for c in range(count)])
    confident = np.where(probabilities >= averages, probabilities, -1.0)
    looks_like = confident.argmax(axis=1)
    suspects = np.flatnonzero((confident.max(axis=1) > 0) & (looks_like != labels))
    margin = probabilities[suspects, labels[suspects]]
    margin = margin - probabilities[suspects, looks_like[suspects]]
    order = suspects[np.argsort(margin, kind="stable")]
    return [(int(index), int(looks_like[index])) for index in order]


def _names(clean: Path) -> dict[str, str]:
    table = shards.columns(clean, ["id", "name"])
    return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))


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
    page = SuspectsPage(dataset, images, reject_list.lines(rejects))
    atomic.write_text(path, gallery.render("commands/suspects/suspects.html", page))
