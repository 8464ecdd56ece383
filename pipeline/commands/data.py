"""Commands about photographs."""

from pathlib import Path
from typing import Annotated

import typer


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
