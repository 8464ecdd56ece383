"""`pipeline pin`."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.terminal import print_line


def pin(
    name: Annotated[str, typer.Argument(help="A folder under datasets/.")],
    raw: Annotated[Path, typer.Option(help="The output of stage acquire.")] = Path("data/raw"),
) -> None:
    """Save the list of acquired photographs, so that everybody gets the same ones.

    A search may return other photographs tomorrow. With datasets/NAME/photos.csv, `dvc repro`
    fetches the photographs of that list and checks the sha256 of each.

    Example:

        pipeline pin cars_bicycles && git add datasets/cars_bicycles
    """
    from pipeline.commands.pin.pin import write_pin

    print_line(f"{write_pin(Path('datasets', name), raw, Path('dvc.lock'))}: `git add` it")
