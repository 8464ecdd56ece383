"""`pipeline new`."""

from typing import Annotated

import typer


def new(
    name: Annotated[str, typer.Argument(help="Of the data set: a folder under datasets/.")],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="A folder, an archive, several archives, a table beside its images, the URL of an "
            "archive, or an address such as s3://bucket/photos."
        ),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Where the label is in a path, such as '{label}_#'.")
    ] = None,
    table: Annotated[str | None, typer.Option(help="The table with the labels.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Its column with the labels.")] = None,
    file_column: Annotated[str | None, typer.Option(help="Its column with the files.")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of a table or of names in a zip, such as cp949; else UTF-8.")
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="FOLDER=train, val or test; or the value of a column. Repeat it."),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(help="A class and its name in the data set: cat=Cat. Repeat it."),
    ] = None,
    ignore_splits: Annotated[
        bool,
        typer.Option("--ignore-splits", help="Assign all images to splits anew."),
    ] = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="Read the photographs where they are; take no copy.")
    ] = False,
    from_flickr: Annotated[
        list[str] | None,
        typer.Option(help="A Flickr search for one class: 'query', or 'label=query'. Repeat it."),
    ] = None,
    wanted: Annotated[
        int | None, typer.Option(min=20, help="Photographs per class of a search; 500 by default.")
    ] = None,
    from_urls: Annotated[
        str | None,
        typer.Option(help="A table with the URL and label of each photograph; or its URL."),
    ] = None,
) -> None:
    """Make a data set of your own photographs.

    It looks at what is there, says what it understood, takes a copy into DVC's care, and writes
    datasets/NAME/dataset.toml. Your own files are only read.

    Examples:

        pipeline new pets ~/Pictures/pets

        pipeline new pets photos --split Training=train --split Holdout=test --rename cat=Cat

        pipeline new pets photos.zip --encoding cp949
    """
    from pipeline.commands.new import local, web
    from pipeline.commands.new.advice import advised_of_options
    from pipeline.commands.new.request import Request, check_one_source, parse_pairs

    splits, labels = parse_pairs("--split", split or ()), parse_pairs("--rename", rename or ())
    request = Request(
        name,
        pattern,
        table,
        label_column,
        file_column,
        encoding,
        splits,
        labels,
        wanted,
        stay,
        ignore_splits,
    )
    check_one_source(sources or [], from_flickr or [], from_urls)
    with advised_of_options():
        if from_flickr:
            web.from_flickr(request, from_flickr)
        elif from_urls:
            web.from_urls(request, from_urls)
        else:
            local.from_files(request, sources or [])
