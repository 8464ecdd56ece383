"""Images whose label the others contradict: each is judged by a model that has not seen it.

The idea of confident learning (Northcutt et al., 2021): a class is what an image looks like where
its out-of-fold probability reaches what images of that class have on average.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.core import atomic, shards
from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.core.split_csv import read_split
from pipeline.images import gallery, reject_list
from pipeline.images.gallery import GalleryImage, data_uri
from pipeline.network import examples as batches
from pipeline.network import feature_store
from pipeline.network.examples import Examples
from pipeline.network.views import EVALUATION
from pipeline.stages.describe import thumbnails

FOLDS = 5
ITERATIONS = 1000
STRENGTH = 0.01  # inverse of the penalty: many features, few images

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
    """That of what it looks like."""


def find(clean: Path, split_csv: Path, features: Path) -> list[Suspect]:
    """The training images that out-of-fold predictions contradict, the clearest case first.

    Raises:
        PipelineError: nothing is stored to compare images by, or a class is too small for folds.
    """
    examples = batches.read_examples(split_csv)
    rows = examples.rows("train")
    values = read_features(features, examples, rows)
    labels = examples.labels[rows].numpy()
    chosen = {row.id: row.group for row in read_split(split_csv)}
    groups = [chosen[examples.ids[row]] or examples.ids[row] for row in rows]
    probabilities = out_of_fold(values, labels, groups, examples.classes)
    names = _names(clean)
    return [
        Suspect(
            key := examples.ids[rows[place]],
            names[key],
            examples.classes[labels[place]],
            examples.classes[other],
            float(probabilities[place, labels[place]]),
            float(probabilities[place, other]),
        )
        for place, other in contradicted(labels, probabilities)
    ]


def read_features(
    features: Path, examples: Examples, rows: Sequence[int]
) -> npt.NDArray[np.float32]:
    """(len(rows), D): the evaluation view's activations, those of feature maps averaged."""
    index = feature_store.read_index(features)
    feature_store.check_images(features, index, examples)
    if not index.stored:
        raise PipelineError(
            f"{features} holds no features ({index.why}), by which suspects are found: run with "
            "`-S model.trainable=head` first"
        )
    parts = []
    for tensor in range(len(index.shapes)):
        array = np.load(feature_store.array_path(features, EVALUATION, tensor), mmap_mode="r")
        part = np.asarray(array[rows], np.float32)
        if part.ndim == 4:  # (N, C, H, W)
            part = part.mean(axis=(2, 3))
        parts.append(part.reshape(len(rows), -1))
    return np.concatenate(parts, axis=1)


def out_of_fold(
    values: npt.NDArray[np.float32], labels: Labels, groups: Sequence[str], classes: Sequence[str]
) -> Floats:
    """(N, classes): what a model that has seen no image of the same group says of each.

    Raises:
        PipelineError: a class has fewer groups than there are folds.
    """
    for number, name in enumerate(classes):
        held = {group for group, label in zip(groups, labels, strict=True) if label == number}
        if len(held) < FOLDS:
            raise PipelineError(
                f"class {name!r} has {len(held)} training images that do not look alike, and "
                f"suspects are found in {FOLDS} folds: add images"
            )
    model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=ITERATIONS))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    found = np.zeros((len(labels), len(classes)))
    with bar("suspects", FOLDS, "fold") as shown:
        for seen, unseen in folds.split(values, labels, groups):
            found[unseen] = model.fit(values[seen], labels[seen]).predict_proba(values[unseen])
            shown.update()
    return found


def contradicted(labels: Labels, probabilities: Floats) -> list[tuple[int, int]]:
    """The places whose label is contradicted, and the class that each looks like instead."""
    count = probabilities.shape[1]
    usual = np.array([probabilities[labels == c, c].mean() for c in range(count)])
    sure = np.where(probabilities >= usual, probabilities, -1.0)
    looks = sure.argmax(axis=1)
    places = np.flatnonzero((sure.max(axis=1) > 0) & (looks != labels))
    margin = probabilities[places, labels[places]] - probabilities[places, looks[places]]
    order = places[np.argsort(margin, kind="stable")]
    return [(int(place), int(looks[place])) for place in order]


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
            f"looks like {suspect.looks_like} ({suspect.other:.0%})",
        )
        for suspect in suspects
    ]
    rejects = ((suspect.id, f"looks like {suspect.looks_like}") for suspect in suspects)
    page = SuspectsPage(dataset, images, reject_list.lines(rejects))
    atomic.write_text(path, gallery.render("commands/suspects/suspects.html", page))
