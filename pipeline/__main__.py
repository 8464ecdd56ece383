"""The command line: what people do with a trained pipeline. Stages are run by DVC."""

import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline import __version__, stage
from pipeline.errors import PipelineError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Use what the pipeline made. To make it: `dvc repro`, or `dvc exp run -S train.lr=0.003`.",
)  # fmt: skip


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print it.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def predict(
    paths: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Files or folders.")],
    models: Annotated[Path, typer.Option("--model", help="The model's folder.")] = Path("models"),
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Say what is on photographs: a class and its probability for each.

    A file that cannot be read is a row with the reason, and makes the exit code 1.

    Examples:

        pipeline predict photo.jpg

        pipeline predict holiday/ --format json > holiday.jsonl
    """
    from pipeline.predict import Classifier, predict_files  # torch takes seconds to import

    files = list(_files(paths))
    if not files:
        raise PipelineError(f"no files in {', '.join(map(str, paths))}")
    failed = 0
    for path, found in predict_files(Classifier(models), files):
        failed += found.problem is not None
        if output is Format.JSON:
            print(json.dumps({"path": str(path)} | vars(found)), flush=True)
        elif found.probability is None:
            print(f"{path}\t-\t-\t{found.problem}")
        else:
            print(f"{path}\t{found.label}\t{found.probability:.4f}")
    if failed:
        sys.exit(1)


def _files(paths: list[Path]) -> Iterator[Path]:
    """Files as they are named, and those in folders, sorted and without hidden ones."""
    for path in paths:
        if path.is_dir():
            yield from sorted(
                file for file in path.rglob("*") if file.is_file() and not _hidden(file, path)
            )
        else:
            yield path


def _hidden(file: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(below).parts)


@app.command()
def compare(
    one: Annotated[
        str, typer.Argument(metavar="A", help="An experiment, commit, MLflow run's id, or folder.")
    ],
    other: Annotated[str, typer.Argument(metavar="B", help="Likewise.")],
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Where to list the images they differ on.")
    ] = None,
) -> None:
    """Say whether one of two models is better, or whether it is noise.

    Both are held to the same test images, by McNemar's test and a paired bootstrap. A folder is one
    with a predictions.csv (reports/test is this project's), or a model's.

    Examples:

        pipeline compare main reports/test

        pipeline compare bold-aunt 5f0c9b1e --csv differ.csv
    """
    from pipeline import atomic
    from pipeline import compare as comparing
    from pipeline.predictions import find
    from pipeline.printable import show

    found = comparing.compare(find(one), find(other))
    show(["", one, other, "difference", "95 %"], comparing.table(found), numbers=True)
    if found.apart:
        print(f"{found.apart} test images of only one of them are left out")
    print(found.verdict(one, other))
    if csv is not None:
        rows = [(each.id, each.label, each.one, each.other) for each in found.differences]
        atomic.write_csv(csv, ["id", "label", "A", "B"], rows)
        print(f"{len(rows)} images on which they differ are in {csv}")


@app.command()
def export(
    imagefolder: Annotated[
        Path, typer.Option(metavar="DEST", help="A new folder for split/class/image files.")
    ],
    clean: Annotated[Path, typer.Option(help="The clean shards.")] = Path("data/clean"),
    split: Annotated[Path, typer.Option(help="Who is in which split.")] = Path("data/split.csv"),
) -> None:
    """Write the clean images as loose files, for tools that want them.

    Example:

        pipeline export --imagefolder /tmp/photos
    """
    from pipeline.export import imagefolder as write

    count = write(clean, split, imagefolder)
    print(f"{count} images in {imagefolder}")


@app.command()
def pin(
    name: Annotated[str, typer.Argument(help="A folder under datasets/.")],
    raw: Annotated[Path, typer.Option(help="What was acquired.")] = Path("data/raw"),
) -> None:
    """Write down which photographs were acquired, so that anybody gets the same ones.

    A search is not repeatable, a list is: `dvc repro` then fetches the photographs of
    datasets/NAME/photos.csv, and holds each to its sha256.

    Example:

        pipeline pin cars_bicycles && git add datasets/cars_bicycles
    """
    from pipeline.pin import pin as write

    print(f"{write(Path('datasets', name), raw, Path('dvc.lock'))}: `git add` it")


@app.command("credits")
def credit(
    raw: Annotated[Path, typer.Option(help="What was acquired.")] = Path("data/raw"),
) -> None:
    """Print whose photographs these are, as Creative Commons asks for it.

    Example:

        pipeline credits > CREDITS.txt
    """
    from pipeline.credits import lines

    for line in lines(raw):
        print(line)


@app.command()
def suspects(
    most: Annotated[int, typer.Option(min=1, help="How many to list.")] = 50,
    page: Annotated[Path, typer.Option(help="Where to draw them.")] = Path("reports/suspects.html"),
    clean: Annotated[Path, typer.Option(help="The clean shards.")] = Path("data/clean"),
    split: Annotated[Path, typer.Option(help="Who is in which split.")] = Path("data/split.csv"),
    features: Annotated[Path, typer.Option(help="By what to compare.")] = Path("data/features"),
) -> None:
    """List the training images whose label the other images contradict most.

    Nothing is removed: look at them, and name those that are to go in datasets/NAME/reject.csv.

    Example:

        pipeline suspects --most 20
    """
    from pipeline import params
    from pipeline.printable import show
    from pipeline.suspects import find, write_page

    name = params.load().dataset.name
    found = find(clean, split, features)
    write_page(page, found[:most], clean, name)
    rows = [
        [one.id[:12], f"{one.label} {one.own:.0%}", f"{one.looks_like} {one.other:.0%}", one.name]
        for one in found[:most]
    ]
    show(["id", "label", "looks like", "image"], rows)
    print(f"{len(found)} suspects among the training images; {len(rows)} with whole ids in {page}")


@app.command()
def layers(
    backbone: Annotated[
        str, typer.Argument(metavar="[BACKBONE]", help="By default that of params.yaml.")
    ] = "",
    depth: Annotated[int, typer.Option(min=1, help="Longest names, counted in parts.")] = 2,
    size: Annotated[int, typer.Option(help="Of the images; 0: images.size of params.yaml.")] = 0,
) -> None:
    """List where a network can be cut: everything from there on trains, the rest runs once.

    Names go into model.trainable, and those that end the network into model.replace.

    Examples:

        pipeline layers resnet18

        pipeline layers timm/convnext_tiny --depth 3
    """
    from pipeline import params
    from pipeline.network.assembly import trainable
    from pipeline.network.backbone import build
    from pipeline.network.layers import layers as cuts
    from pipeline.printable import show

    settings = params.load()
    side = size or settings.images.size
    chosen = {"weights": "none"} | ({"backbone": backbone} if backbone else {})
    network = build(settings.model.model_copy(update=chosen), side, seed=0).network
    rows = [
        [trainable(one.name), one.kind,
         " + ".join(" x ".join(map(str, shape)) for shape in one.shapes),
         f"{one.values * 4 / 1e3:,.1f}", f"{one.trainable / 1e6:,.2f}"]
        for one in cuts(network, side, depth)
    ]  # fmt: skip
    show(["model.trainable", "is a", "takes", "kB", "M trained"], rows)
    print(
        "takes: per image; kB: of float32, stored per image and view (features.dtype=float16: half "
        "of it); M trained: million parameters from there on"
    )


@app.command()
def recipe(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Without one, all are listed.")
    ] = "",
    about: Annotated[
        bool, typer.Option("--about", help="Say what it is and where it deviates instead.")
    ] = False,
) -> None:
    """Print a recipe as options for `dvc exp run`; options after it win over it.

    Examples:

        dvc exp run $(pipeline recipe better-flowers)

        dvc exp run $(pipeline recipe cats-dogs) -S model.weights=none

        pipeline recipe cats-dogs --about
    """
    from pipeline import recipes

    if not name:
        for each in recipes.names():
            print(f"{each}: {recipes.read(each).about}")
        return
    found = recipes.read(name)
    print("\n".join([found.about, *(f"- {one}" for one in found.deviates)]) if about
          else " ".join(found.options()))  # fmt: skip


def main() -> None:
    """The entry point `pipeline`."""
    stage.exit_on_failure(app)


if __name__ == "__main__":
    main()
