"""Options that several commands share."""

from typing import Annotated

import typer

AllCommits = Annotated[
    bool, typer.Option("--all-commits", help="Search all commits, not only branches and tags.")
]
