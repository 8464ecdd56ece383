"""`pipeline recipe`."""

from typing import Annotated

import typer

from pipeline.core.terminal import print_line


def recipe(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Without a name, all recipes are listed.")
    ] = "",
    about: Annotated[
        bool,
        typer.Option(
            "--about", help="Print its description and its deviations from the tutorial instead."
        ),
    ] = False,
) -> None:
    """Print a recipe as options of `dvc exp run`; options after it override it.

    Examples:

        dvc exp run $(pipeline recipe better-flowers)

        dvc exp run $(pipeline recipe cats-dogs) -S model.weights=none

        pipeline recipe cats-dogs --about
    """
    from pipeline.commands.recipe import recipes

    if not name:
        for recipe_name in recipes.names():
            print_line(f"{recipe_name}: {recipes.read(recipe_name).about}")
        return
    recipe = recipes.read(name)
    if about:
        for line in (recipe.about, *(f"- {deviation}" for deviation in recipe.deviations)):
            print_line(line)
    else:
        print_line(" ".join(recipe.options()))
