"""`pipeline credits`."""

from pathlib import Path
from typing import Annotated

import typer


def credit(
    raw: Annotated[Path, typer.Option(help="What was acquired.")] = Path("data/raw"),
) -> None:
    """Print whose photographs these are, as Creative Commons asks for it.

    Example:

        pipeline credits > CREDITS.txt
    """
    from pipeline.commands.credits.credits import lines

    for line in lines(raw):
        print(line)
