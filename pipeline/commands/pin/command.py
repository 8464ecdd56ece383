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
    from pipeline.commands.pin.pin import pin as write

    print(f"{write(Path('datasets', name), raw, Path('dvc.lock'))}: `git add` it")
