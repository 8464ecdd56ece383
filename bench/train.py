"""Seconds of features and train, beside the tutorial's loop and beside the floor.

    python -m bench.train                            # against bench.tutorial
    python -m bench.train --floor                    # features, beside bare forward passes
    python -m bench.train --further                  # training again from cached features
    python -m bench.train --backbones resnet18,vgg16 # features of backbones with random weights
    python -m bench.train --trainable                # by how much of the network trains

`--photos hymenoptera_data.zip` takes ants and bees; without it, the drawn sample. `-S` sets values
of params.yaml, as in `-S train.batch_size=4`, for both sides.

`work` is everything that the two stages do with empty memos, MLflow included, in a process
that has its imports; the tutorial's seconds are of its whole loop likewise. `stages` is two
processes as DVC starts them, beside the tutorial's process. The floor is forward passes of the
frozen part over views in memory, in the same precision, batches and threads. A first run,
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
    ratios = [above / below for above, below in zip(upper, lower, strict=True)]
    show(name, ratios, "times")


def compare(project: Project, epochs: int, seeds: int) -> None:
    """The tutorial's loop, ours, ours with the evaluation view alone, and ours as stages."""
    project.warm_up()
    results: dict[str, list[Figures]] = {"tutorial": [], "work": [], "work, 1 view": []}
    walls = []
    for seed in range(1, seeds + 1):
        overrides: dict[str, Any] = {
            "train__seed": seed,
            "features__seed": seed,
            "train__epochs": epochs,
        }
        project.configure(**overrides)
        results["tutorial"].append(project.tutorial())
        project.forget()
        results["work"].append(project.measure("work"))
        project.forget()
        walls.append(project.stages())
        project.forget()
        project.configure(**overrides | EVALUATION_ALONE)
        results["work, 1 view"].append(project.measure("work"))
        project.forget()
        print(f"seed {seed} is done", flush=True)
    _show_comparison(results, walls)


def _show_comparison(results: dict[str, list[Figures]], walls: list[float]) -> None:
    seconds = {name: [run["seconds"] for run in figures] for name, figures in results.items()}
    for name, figures in results.items():
        show(name, seconds[name], "s")
        for stage in ("features", "train"):
            if stage in figures[0]:
                show(f"  of it {stage}", [run[stage] for run in figures], "s")
        show("  test accuracy", [run["accuracy"] for run in figures], "", 4)
    tutorial = [run["wall"] for run in results["tutorial"]]
    show("tutorial, its process", tutorial, "s")
    show("stages, their processes", walls, "s")
    show_ratio("tutorial / work", seconds["tutorial"], seconds["work"])
    show_ratio("tutorial / work, 1 view", seconds["tutorial"], seconds["work, 1 view"])
    show_ratio("tutorial's process / stages' processes", tutorial, walls)


def beside_the_floor(project: Project, repeats: int) -> None:
    """Features per second: of the whole stage, of the stage without building its network
    (`stored`), and of the floor."""
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
    """Train a head again, with another learning rate, from stored features."""
    project.warm_up()
    project.configure(train__epochs=epochs)
    project.measure("stage")
    runs = []
    for number in range(repeats):
        project.configure(train__epochs=epochs, train__lr=0.002 + 0.001 * number)
        runs.append(project.measure("training"))
    show(f"a further training of {epochs} epochs", [run["seconds"] for run in runs], "s")
    further_epochs = [1000 * statistics.median(run["epochs"]) for run in runs]
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
    """The side, in pixels, that a backbone's ImageNet weights were trained with."""
    if name in list_models(module=torchvision.models):
        weights = get_model_weights(name)
        best: Any = getattr(weights, "IMAGENET1K_V1", None) or weights.DEFAULT
        return int(best.transforms().crop_size[0])
    return backbones.blank(name, {}, 32, 1).usual.size


def by_trainable(project: Project, names: Sequence[str], epochs: int) -> None:
    """A table of the cost of the features and of an epoch."""
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


def parse_assignments(changed: Sequence[str]) -> dict[str, object]:
    """Values by the names of params, of texts such as `images.size=32`."""
    values: dict[str, object] = {}
    for assignment in changed:
        name, _, value = assignment.partition("=")
        values[name] = YAML(typ="safe", pure=True).load(value)
    return values


def prepare(folder: Path, photos: Path | None, views: int, changed: Sequence[str]) -> Project:
    """A project in `folder` with its data."""
    overrides: dict[str, object] = {"features.views": views}
    if not views:
        overrides["images.augment"] = "none"
    if photos is not None:
        overrides |= {"dataset.name": "hymenoptera", "dataset.source": str(photos.resolve())}
    base = with_overrides(load_params(ROOT / "params.yaml"), overrides | parse_assignments(changed))
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
    arguments = parser.parse_args()
    if (arguments.further or arguments.trainable) and arguments.epochs == 1:
        parser.error("a further epoch takes --epochs 2 or more")
    return arguments


def main() -> None:
    arguments = options()
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}, "
        f"torchvision {torchvision.__version__}"
    )
    with tempfile.TemporaryDirectory() as folder:
        project = prepare(Path(folder), arguments.photos, arguments.views, arguments.changed)
        if arguments.floor:
            beside_the_floor(project, arguments.repeats)
        elif arguments.further:
            further(project, arguments.epochs or 30, arguments.repeats)
        elif arguments.backbones:
            by_backbone(project, arguments.backbones.split(","), arguments.repeats)
        elif arguments.trainable:
            by_trainable(project, arguments.trainable.split(","), arguments.epochs or 3)
        else:
            compare(project, arguments.epochs or 30, arguments.seeds)


if __name__ == "__main__":
    main()
