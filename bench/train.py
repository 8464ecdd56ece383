"""Seconds of features and train, beside the tutorial's loop and beside the floor.

    python -m bench.train                            # against bench.tutorial
    python -m bench.train --floor                    # features, beside bare forward passes
    python -m bench.train --further                  # training again from cached features
    python -m bench.train --backbones resnet18,vgg16 # features of backbones with random weights
    python -m bench.train --trainable                # by how much of the network trains

`--photos hymenoptera_data.zip` takes ants and bees; without it, the drawn sample. `-S` sets values
of params.yaml, as in `-S train.batch_size=4`, for both sides.

`work` is everything that the two stages do with nothing remembered, MLflow included, in a process
that has its imports; the tutorial's seconds are of its whole loop likewise. `stages` is two
processes as DVC starts them, beside the tutorial's process. The floor is forward passes of the
frozen part over views that lie in memory, in the same precision, batches and threads. A first run,
which creates MLflow's database, is not counted. Each figure is of a process of its own, in turn.
"""

import argparse
import os
import platform
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from ruamel.yaml import YAML
from torchvision.models import get_model_weights, list_models

from bench.project import ROOT, Figures, Project
from pipeline.network import backbones
from pipeline.params import load_params, with_overrides

TRAINABLE = "head,features.18,features.14,all"
EVALUATION_ALONE = {"images__augment": "none", "features__views": 0}


def show(name: str, values: Sequence[float], unit: str, digits: int = 2) -> None:
    """Median, spread and n of figures."""
    low, middle, high = (
        f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values))
    )
    print(f"{name}: {f'{middle} {unit}'.strip()} ({low}-{high}, n={len(values)})")


def show_ratio(name: str, upper: Sequence[float], lower: Sequence[float]) -> None:
    """Median and spread of ratios pair by pair."""
    pairs = [one / other for one, other in zip(upper, lower, strict=True)]
    show(name, pairs, "times")


def compare(project: Project, epochs: int, seeds: int) -> None:
    """The tutorial's loop, ours, ours with the evaluation view alone, and ours as stages."""
    project.warm_up()
    found: dict[str, list[Figures]] = {"tutorial": [], "work": [], "work, 1 view": []}
    walls = []
    for seed in range(1, seeds + 1):
        chosen: dict[str, Any] = {
            "train__seed": seed,
            "features__seed": seed,
            "train__epochs": epochs,
        }
        project.configure(**chosen)
        found["tutorial"].append(project.tutorial())
        project.forget()
        found["work"].append(project.measure("work"))
        project.forget()
        walls.append(project.stages())
        project.forget()
        project.configure(**chosen | EVALUATION_ALONE)
        found["work, 1 view"].append(project.measure("work"))
        project.forget()
        print(f"seed {seed} is done", flush=True)
    _show_comparison(found, walls)


def _show_comparison(found: dict[str, list[Figures]], walls: list[float]) -> None:
    taken = {name: [each["seconds"] for each in figures] for name, figures in found.items()}
    for name, figures in found.items():
        show(name, taken[name], "s")
        for part in ("features", "train"):
            if part in figures[0]:
                show(f"  of it {part}", [each[part] for each in figures], "s")
        show("  test accuracy", [each["accuracy"] for each in figures], "", 4)
    tutorial = [each["wall"] for each in found["tutorial"]]
    show("tutorial, its process", tutorial, "s")
    show("stages, their processes", walls, "s")
    show_ratio("tutorial / work", taken["tutorial"], taken["work"])
    show_ratio("tutorial / work, 1 view", taken["tutorial"], taken["work, 1 view"])
    show_ratio("tutorial's process / stages' processes", tutorial, walls)


def beside_the_floor(project: Project, repeats: int) -> None:
    """Features per second: all that the stage does; what is left of it once its network is built
    (`stored`); and the floor."""
    rates: dict[str, list[float]] = {"stage": [], "stored": [], "floor": []}
    for _ in range(repeats):
        for name, values in rates.items():
            project.forget()
            figures = project.measure(name)
            values.append(figures["features"] / figures["seconds"])
    print(f"{figures['features']} features, {figures['precision']}")
    for name, values in rates.items():
        show(name, values, "features/s", 0)
    show_ratio("stage / floor", rates["stage"], rates["floor"])
    show_ratio("stored / floor", rates["stored"], rates["floor"])


def further(project: Project, epochs: int, repeats: int) -> None:
    """Training a head again, with another learning rate, from features that are there."""
    project.warm_up()
    project.configure(train__epochs=epochs)
    project.measure("stage")
    found = []
    for number in range(repeats):
        project.configure(train__epochs=epochs, train__lr=0.002 + 0.001 * number)
        found.append(project.measure("training"))
    show(f"a further training of {epochs} epochs", [each["seconds"] for each in found], "s")
    further_epochs = [1000 * statistics.median(each["epochs"]) for each in found]
    show("a further epoch", further_epochs, "ms", 1)


def by_backbone(project: Project, names: Sequence[str], repeats: int) -> None:
    """Features per second of the evaluation view, each backbone at its own size."""
    for name in names:
        size = _size(name)
        project.configure(
            model__backbone=name, model__weights="none", images__size=size, **EVALUATION_ALONE
        )
        print(f"{name}, {size} pixels: ", end="")
        beside_the_floor(project, repeats)


def _size(name: str) -> int:
    """What a backbone's ImageNet weights were made for."""
    if name in list_models(module=torchvision.models):
        weights = get_model_weights(name)
        best: Any = getattr(weights, "IMAGENET1K_V1", None) or weights.DEFAULT
        return int(best.transforms().crop_size[0])
    return backbones.blank(name, {}, 32, 1).usual.size


def by_trainable(project: Project, names: Sequence[str], epochs: int) -> None:
    """A table: what the cache costs, and what an epoch costs."""
    project.warm_up()
    print(f"{'trainable':>12} {'features, s':>12} {'epoch, s':>9} {'cached, GB':>11}")
    for name in names:
        project.forget()
        project.configure(model__trainable=name, train__epochs=epochs)
        computed, trained = project.measure("stage"), project.measure("training")
        epoch = statistics.median(trained["epochs"])
        print(
            f"{name:>12} {computed['seconds']:12.2f} {epoch:9.3f} {computed['gigabytes']:11.4f}",
            flush=True,
        )


def prepared(folder: Path, photos: Path | None, views: int, changed: Sequence[str]) -> Project:
    """A project in `folder` with its data."""
    overrides: dict[str, object] = {"features.views": views}
    if photos is not None:
        overrides |= {"dataset.name": "hymenoptera", "dataset.source": str(photos.resolve())}
    for assignment in changed:
        name, _, value = assignment.partition("=")
        overrides[name] = YAML(typ="safe", pure=True).load(value)
    base = with_overrides(load_params(ROOT / "params.yaml"), overrides)
    project = Project(folder, base)
    splits = project.measure("data")
    print(", ".join(f"{count} {name}" for name, count in splits.items()), "images")
    project.forget()
    return project


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--floor", action="store_true")
    modes.add_argument("--further", action="store_true")
    modes.add_argument("--backbones", metavar="A,B")
    modes.add_argument("--trainable", nargs="?", const=TRAINABLE, metavar="A,B")
    parser.add_argument("--photos", type=Path, help="hymenoptera_data.zip")
    parser.add_argument("--epochs", type=int, help="30; with --trainable 3")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="of the other modes")
    parser.add_argument("--views", type=int, default=4, help="augmented, per training image")
    parser.add_argument("-S", dest="changed", action="append", default=[], metavar="NAME=VALUE")
    chosen = parser.parse_args()
    if (chosen.further or chosen.trainable) and chosen.epochs == 1:
        parser.error("a further epoch takes --epochs 2 or more")
    return chosen


def main() -> None:
    chosen = options()
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}, "
        f"torchvision {torchvision.__version__}"
    )
    with tempfile.TemporaryDirectory() as folder:
        project = prepared(Path(folder), chosen.photos, chosen.views, chosen.changed)
        if chosen.floor:
            beside_the_floor(project, chosen.repeats)
        elif chosen.further:
            further(project, chosen.epochs or 30, chosen.repeats)
        elif chosen.backbones:
            by_backbone(project, chosen.backbones.split(","), chosen.repeats)
        elif chosen.trainable:
            by_trainable(project, chosen.trainable.split(","), chosen.epochs or 3)
        else:
            compare(project, chosen.epochs or 30, chosen.seeds)


if __name__ == "__main__":
    main()
