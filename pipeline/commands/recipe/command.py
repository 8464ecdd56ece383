"""`pipeline recipe`."""

from typing import Annotated

import typer


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
    from pipeline.commands.recipe import recipes

    if not name:
        for each in recipes.names():
            print(f"{each}: {recipes.read(each).about}")
        return
    found = recipes.read(name)
    print(
        "\n".join([found.about, *(f"- {one}" for one in found.deviates)])
        if about
        else " ".join(found.options())
    )
