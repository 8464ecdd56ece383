"""`pipeline review`."""

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.progress import hide_activity, show_activity
from pipeline.core.terminal import print_line, warn


def review(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the page; 0 is any that is free.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
    clean: Annotated[Path, typer.Option(help="The folder of clean images.")] = Path("data/clean"),
    split: Annotated[Path, typer.Option(help="The split of each image.")] = Path("data/split.csv"),
    features: Annotated[Path, typer.Option(help="The features.")] = Path("data/features"),
    verdicts: Annotated[Path, typer.Option(help="The verdict on each image.")] = Path(
        "data/verdicts.csv"
    ),
) -> None:
    """Look at images that are worth a look, and choose what to reject or relabel, in a browser.

    Worth a look: labels that may be wrong (as `pipeline suspects`), outliers, blurred, dark and
    over-exposed images, and ones with little detail, an odd shape or few of 16 bits used. Choices
    are appended to reject.csv and relabel.csv of the data set when you save; nothing is removed,
    and `dvc repro` applies them. The page is for this machine alone. Ctrl-C ends it.

    Examples:

        pipeline review

        pipeline review --no-browser --port 8765    # then open its address

        ssh -L 8765:127.0.0.1:8765 SERVER    # to open that of a server here
    """
    show_activity("review")
    from pipeline.commands.review.browser import open_browser
    from pipeline.commands.review.catalogue import Catalogue
    from pipeline.commands.review.dataset_folder import find_dataset_folder
    from pipeline.commands.review.endpoints import Endpoints
    from pipeline.commands.review.flags import find_flags
    from pipeline.commands.review.server import PageServer
    from pipeline.core import project
    from pipeline.params import load_params

    project.check()
    folder = find_dataset_folder(load_params().dataset.name, clean)
    flags, problems = find_flags(clean, split, features, verdicts)
    for problem in problems:
        warn(problem)
    catalogue = Catalogue(clean, split, flags)
    endpoints = Endpoints(folder, clean, catalogue, problems)
    hide_activity()
    with PageServer(port, endpoints.get, endpoints.post) as server, suppress(KeyboardInterrupt):
        print_line(f"review: {catalogue.flagged_count} of {len(catalogue)} images worth a look")
        print_line(f"review: {server.url} (Ctrl-C ends it)")
        with open_browser(server.url) if browser else nullcontext():
            server.serve_forever()
    counts = endpoints.line_counts
    summary = f"appended {counts.rejects} to reject.csv and {counts.labels} to relabel.csv"
    hint = "; `dvc repro` applies them" if counts.rejects or counts.labels else ""
    print_line(f"review: ended; {summary}{hint}")
