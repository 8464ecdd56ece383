"""How well frozen backbones transfer, and what they cost: accuracy of a head, and CPU seconds.

    python -m bench.backbones hymenoptera=hymenoptera_data.zip cats_dogs=PetImages.zip
    python -m bench.backbones cifar10=cifar10_jpg.zip --per-class 500

Each argument is a data set of datasets/ and its photographs. The test images are never looked at:
a logistic regression over the backbone's features, its penalty the same for all, is held to the
images of train and val in cross-validation. Near-duplicates stay in one fold; every seed draws
other folds. Each backbone sees images of the size that its weights were trained with.

`difference` is to the first backbone, of the same images, with a 95 % interval by the bootstrap
over groups. CPU seconds are of decoding and forward passes of the evaluation view, on all cores,
with the engine that stage features would take; the backbones take turns.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bench.project import CLEAN, ROOT, SPLIT, Project
from bench.train import parse_assignments
from pipeline.commands.suspects import regression
from pipeline.core import columns
from pipeline.core.split_csv import read_split
from pipeline.network import backbones, feature_store, views
from pipeline.network.examples import read_examples
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.loading.parallel_forward import SUB_BATCH
from pipeline.params import Params, load_params, with_overrides
from pipeline.solvers.folds import stratified_folds
from pipeline.stages.evaluate import intervals
from pipeline.stages.features import compute

BACKBONES = "mobilenet_v2," + ",".join(f"timm/tf_efficientnet_lite{number}" for number in range(3))
FOLDS = 5
TITLE = "| data set | backbone | accuracy | difference | log loss | CPU s per 1,000 |"
Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TrainingImages:
    """The images of train and val."""

    clean: Path
    ids: list[str]
    labels: Labels
    groups: Labels
    """Numbers of groups, from 0."""


@dataclass(frozen=True)
class Score:
    """Out-of-fold figures of each image."""

    right: Floats
    """(seeds, images) 1 where the class is right."""
    losses: Floats
    """(seeds, images) negative logarithms of the probability of the label."""


@dataclass(frozen=True)
class Backbone:
    """A frozen backbone over the images of a data set."""

    name: str
    params: Params
    prefix: FrozenPrefix

    def features(self, images: TrainingImages) -> tuple[Values, float]:
        """(images, D) Features of the evaluation view, and CPU seconds."""
        view_images = views.Views(
            images.ids,
            views.EncodedImages(images.clean, images.ids),
            self.prefix.preprocess,
            self.params.images,
            [views.EVALUATION],
            self.params.features.seed,
        )
        order = feature_store.chunks(np.arange(len(images.ids)), SUB_BATCH, 1)
        batches = [batch.tolist() for batch in order]
        start = time.process_time()
        tensors = [values for (values,) in self.prefix.activations(view_images, batches, True)]
        seconds = time.process_time() - start
        return torch.cat(tensors).flatten(1).numpy(), seconds


def read_images(project: Project) -> TrainingImages:
    """The images that a training of the project may see."""
    clean, split_csv = project.folder / CLEAN, project.folder / SPLIT
    examples, table = read_examples(split_csv, clean), read_split(split_csv)
    rows = np.sort(np.concatenate([examples.rows("train"), examples.rows("val")]))
    names = np.array(columns.fill_empty(table.groups, table.ids).to_pylist())[rows]
    groups = np.unique(names, return_inverse=True)[1]
    return TrainingImages(clean, examples.ids_of(rows), examples.labels.numpy()[rows], groups)


def prepare(folder: Path, name: str, photos: str, arguments: argparse.Namespace) -> Project:
    """A project with the split images of a data set; without photographs, of its own source."""
    overrides: dict[str, object] = {"dataset.name": name, "images.augment": "none"}
    overrides |= {"features.views": 0} | parse_assignments(arguments.changed)
    if photos:
        overrides["dataset.source"] = str(Path(photos).resolve())
    if arguments.per_class:
        val = max(1, arguments.per_class // 5)
        train = arguments.per_class - val
        overrides |= {"split.train": train, "split.val": val, "split.test": val}
    folder.mkdir()
    project = Project(folder, with_overrides(load_params(ROOT / "params.yaml"), overrides))
    project.measure("images")
    return project


def build(name: str, base: Params) -> Backbone:
    """A backbone with its ImageNet weights, ready to compute."""
    size = backbones.blank(name, {}, 32, 1).usual.size
    params = with_overrides(base, {"model.backbone": name, "images.size": size})
    prefix = compute.frozen_prefix(params)
    prefix(torch.zeros(1, 3, size, size).byte())  # the first call prepares it
    return Backbone(name, params, prefix)


def cross_validate(values: Values, images: TrainingImages, seeds: int) -> Score:
    """Out-of-fold figures of a logistic regression, for each seed of the folds."""
    shape = (seeds, len(images.ids))
    right, losses = np.zeros(shape), np.zeros(shape)
    classes = int(images.labels.max()) + 1
    for seed in range(seeds):
        folds = stratified_folds(images.labels, images.groups, FOLDS, seed)
        for fold in range(FOLDS):
            inside, outside = folds != fold, folds == fold
            block = (values[inside], images.labels[inside])
            model = regression.fit(lambda block=block: iter([block]), classes)  # type: ignore[misc]
            probabilities = model.probabilities(values[outside])
            labels = images.labels[outside]
            right[seed, outside] = probabilities.argmax(axis=1) == labels
            own = probabilities[np.arange(len(labels)), labels]
            losses[seed, outside] = -np.log(np.maximum(own, np.finfo(float).tiny))
    return Score(right, losses)


def format_row(
    name: str, backbone: str, score: Score, first: Score, groups: Labels, costs: Sequence[float]
) -> str:
    """A row of the table."""
    accuracies = score.right.mean(axis=1)
    figures = [
        f"{accuracies.mean():.4f} ({accuracies.min():.4f} to {accuracies.max():.4f})",
        _format_difference(first, score, groups),
        f"{score.losses.mean():.4f}",
        f"{statistics.median(costs):.1f} ({min(costs):.1f} to {max(costs):.1f})",
    ]
    return f"| {name} | {backbone} | {' | '.join(figures)} |"


def _format_difference(first: Score, score: Score, groups: Labels) -> str:
    if score is first:
        return ""
    before, after = first.right.mean(axis=0), score.right.mean(axis=0)
    interval = intervals.difference(before, after, groups.astype(np.int32))
    mean = (after - before).mean()
    return f"{mean:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})"


def compare(project: Project, name: str, arguments: argparse.Namespace) -> None:
    """Print the rows of a data set."""
    images, names = read_images(project), arguments.backbones.split(",")
    compared = [build(backbone, project.base) for backbone in names]
    costs: dict[str, list[float]] = {backbone: [] for backbone in names}
    values: dict[str, Values] = {}
    for _ in range(arguments.repeats):
        for backbone in compared:
            values[backbone.name], seconds = backbone.features(images)
            costs[backbone.name].append(1000 * seconds / len(images.ids))
    scores = {
        backbone: cross_validate(values[backbone], images, arguments.seeds) for backbone in names
    }
    label = f"{name}, n={len(images.ids)}"
    for backbone in names:
        score, first = scores[backbone], scores[names[0]]
        row = format_row(label, backbone, score, first, images.groups, costs[backbone])
        print(row, flush=True)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+", metavar="NAME=PHOTOS")
    parser.add_argument("--backbones", default=BACKBONES, metavar="A,B")
    parser.add_argument("--per-class", type=int, help="images of each class, for train and val")
    parser.add_argument("--repeats", type=int, default=3, help="of the features")
    parser.add_argument("--seeds", type=int, default=3, help="of the folds")
    parser.add_argument("-S", dest="changed", action="append", default=[], metavar="NAME=VALUE")
    return parser.parse_args()


def main() -> None:
    arguments = options()
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}; "
        f"{FOLDS} folds, {arguments.seeds} seeds of them, features n={arguments.repeats}"
    )
    print(f"{TITLE}\n{'|---' * (TITLE.count('|') - 1)}|", flush=True)
    for number, argument in enumerate(arguments.sets):
        name, _, photos = argument.partition("=")
        with tempfile.TemporaryDirectory() as folder:
            project = prepare(Path(folder, str(number)), name, photos, arguments)
            compare(project, name, arguments)


if __name__ == "__main__":
    main()
