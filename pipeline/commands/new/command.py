"""`pipeline new`."""

from typing import Annotated

import typer


def new(
    name: Annotated[str, typer.Argument(help="Of the data set: a folder under datasets/.")],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="A folder, an archive, several archives, a table beside its images, or the URL of "
            "an archive."
        ),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Where the label is in a path, such as '{label}_#'.")
    ] = None,
    table: Annotated[str | None, typer.Option(help="The table with the labels.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Its column with the labels.")] = None,
    file_column: Annotated[str | None, typer.Option(help="Its column with the files.")] = None,
    stay: Annotated[
        bool, typer.Option("--stay", help="Read the photographs where they are; take no copy.")
    ] = False,
    from_flickr: Annotated[
        list[str] | None,
        typer.Option(help="A Flickr search for one class: 'query', or 'label=query'. Repeat it."),
    ] = None,
    wanted: Annotated[int, typer.Option(min=20, help="Photographs per class of a search.")] = 500,
    from_urls: Annotated[
        str | None, typer.Option(help="A table with the URL and the label of each photograph.")
    ] = None,
) -> None:
    """Make a data set of your own photographs.

    It looks at what is there, says what it understood, takes a copy into DVC's care, and writes
    datasets/NAME/dataset.toml. Your own files are only read.

    Example:

        pipeline new pets ~/Pictures/pets
    """
    from pipeline.commands.new import listed, local
    from pipeline.commands.new.request import Request, check_one_source

    request = Request(name, pattern, table, label_column, file_column)
    check_one_source(sources or [], from_flickr or [], from_urls)
    if from_flickr:
        listed.from_flickr(request, from_flickr, wanted)
    elif from_urls:
        listed.from_urls(request, from_urls)
    else:
        local.from_files(request, sources or [], stay)
