"""`pipeline credits`."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.terminal import print_line


def credit(
    raw: Annotated[Path, typer.Option(help="The output of stage acquire.")] = Path("data/raw"),
) -> None:
    """Print the attribution of the photographs that Creative Commons licences require.

    Example:

        pipeline credits > CREDITS.txt
    """
    from pipeline.commands.credits.credits import credit_lines

    for line in credit_lines(raw):
        print_line(line)
