"""`pipeline serve`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core import program
from pipeline.core.errors import PipelineError
from pipeline.core.progress import hide_activity, show_activity
from pipeline.core.terminal import print_line

TOKEN = "PIPELINE_SERVE_TOKEN"  # noqa: S105 # the name of a variable

EVERYBODY = "; the page shows no training images: no token is required"


def serve(
    model: Annotated[str, typer.Argument(help="The model's folder, or @champion.")] = "models",
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 is any that is free.")
    ] = 8000,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Fetch images from URLs of public addresses.")
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Append features and answers, not images, to FILE, for `pipeline drift`.",
        ),
    ] = None,
    feedback: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep pictures that people call wrong on the page in DIR, for review.",
        ),
    ] = None,
    no_neighbours: Annotated[
        bool, typer.Option("--no-neighbours", help="Show nobody the nearest training images.")
    ] = False,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Answer everybody who can reach --host.")
    ] = False,
) -> None:
    """Serve a model over HTTP: POST /predict answers images with classes and probabilities.

    @champion is followed: when `pipeline promote` makes another model the champion, the service
    answers with that one a few seconds later. With PIPELINE_SERVE_TOKEN in the environment, clients
    must send it (Authorization: Bearer); other machines than this one are served with a token only.
    Nothing that a client sends is kept; --log keeps features and answers, --feedback pictures
    that people call wrong. Where the project's data are, the page at / shows the nearest training
    images beside an answer, to those who have the token or are on this machine.
    Ctrl-C or SIGTERM ends the service after the requests in progress.
    docs/serving.md has the rest.

    Examples:

        pipeline serve

        pipeline serve @champion --port 8080

        curl -F image=@photo.jpg http://127.0.0.1:8000/predict
    """
    from pipeline.commands.serve.server import is_loopback

    token = _token()
    if token is None and not no_token and not is_loopback(host):
        raise PipelineError(
            f"--host {host} lets other machines ask: set {TOKEN} to a secret that clients must "
            "send, or allow everybody with --no-token"
        )
    from pipeline.inference.decoder_pool import DecoderPool

    show_activity("serve")
    with DecoderPool() as decoders:
        decoders.start()  # while torch is imported
        with program.imports():
            from pipeline.commands.serve.service import open_service
        is_private = token is not None or is_loopback(host)
        data = Path("data") if is_private and not no_neighbours else None
        with open_service(
            model, host, port, decoders, token, allow_urls, log, feedback, data
        ) as service:
            hide_activity()
            note = service.note if is_private or no_neighbours else EVERYBODY
            print_line(f"serve: {service.url} answers with {service.model} (Ctrl-C ends it){note}")
            service.run()
    print_line("serve: ended")


def _token() -> str | None:
    token = os.environ.get(TOKEN)
    if token is None:
        return None
    if not (token.isascii() and token.isprintable() and token.strip() == token and token):
        raise PipelineError(f"{TOKEN} is empty or has characters that a header cannot have")
    return token
