"""`pipeline verify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.core.errors import PipelineError
from pipeline.core.percentages import format_fraction
from pipeline.core.plurals import plural
from pipeline.core.progress import show_activity
from pipeline.core.terminal import print_line

if TYPE_CHECKING:
    from pipeline.experiments.attestation.verification import Verification

MAX_PRINTED = 20  # names of a kind
MAX_NAME = 100  # characters of a licence


def verify(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The folder of the model.")] = Path(
        "models"
    ),
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The public key of the person whom you trust."),
    ] = None,
    attestation: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Default: the folder `attestation` beside MODEL."),
    ] = None,
    data: Annotated[
        bool, typer.Option("--data", help="Read the images as well, which may take minutes.")
    ] = False,
    recompute: Annotated[
        bool,
        typer.Option("--recompute", help="Train again from the statement's commit, and compare."),
    ] = False,
) -> None:
    """Check a model against the signed statement of `pipeline attest`, without network.

    Names each file that differs from the statement. Files other than the model's are checked where
    they lie beside the attestation, as in the project. Exits with 1 if anything differs, and also
    without --key: the key that came with the statement proves nothing about who made it.

    --recompute runs the code of the statement's commit, which this clone must have, on its data:
    it proves that this model comes from them. Equal bytes need the same kind of processor.

    Examples:

        pipeline verify models --key alice.pub

        pipeline verify download/models --key alice.pub --data

        pipeline verify --key alice.pub --recompute
    """
    from pipeline.experiments.attestation import files, verification

    show_activity("verify")
    folder = attestation or model.absolute().parent / files.ATTESTATION
    result = verification.verify(model, folder, key, data)
    _print(result)
    if recompute and result.files.differences:
        raise PipelineError("files differ from the statement, so nothing is computed")
    if recompute:
        _recompute(result, folder.absolute().parent)
    if not result.is_proved:
        count = len(result.files.differences)
        reason = plural(count, "difference") if count else "unknown signer"
        print_line(f"not verified: {reason}")
        raise typer.Exit(1)
    print_line("verified")


def _print(result: "Verification") -> None:
    content = result.statement.predicate
    print_line(f"commit {content.code.commit}, data set {content.dataset.name}")
    licences = ", ".join(
        f"{number} {name[:MAX_NAME] or 'without a stated licence'}"
        for name, number in list(content.dataset.licences.items())[:MAX_PRINTED]
    )
    print_line(f"{plural(content.dataset.images, 'image')}: {licences}")
    if (accuracy := content.metrics.get("accuracy")) is not None:
        print_line(f"accuracy {format_fraction(accuracy)}")
    if deviations := content.environment.deviations:
        names = [name[:MAX_NAME] for name in deviations]
        _print_names("made with other packages than in requirements.lock", names)
    print_line(f"same as in the statement: {plural(len(result.files.same), 'file')}")
    _print_names("not here", result.files.absent)
    if result.files.unread:
        print_line(
            f"not read: {plural(len(result.files.unread), 'shard')} of images (--data reads them)"
        )
    for difference in result.files.differences[:MAX_PRINTED]:
        print_line(f"differs: {difference}")
    if len(result.files.differences) > MAX_PRINTED:
        print_line(f"and {len(result.files.differences) - MAX_PRINTED} more")
    if result.is_signer_known:
        print_line(f"signed by {result.signer}")
    else:
        print_line(f"unknown signer {result.signer}: name a public key that you trust with --key")


def _print_names(what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - MAX_PRINTED} more" if len(names) > MAX_PRINTED else ""
        print_line(f"{what}: {', '.join(names[:MAX_PRINTED])}{more}")


def _recompute(result: "Verification", base: Path) -> None:
    if not result.is_signer_known:
        raise PipelineError(
            "--recompute runs what the statement names: give the signer's public key with --key"
        )
    from pipeline.commands.reproduce.recompute import recompute

    differences = recompute(result.statement, base)
    for difference in differences[:MAX_PRINTED]:
        print_line(f"differs: {difference}")
    if differences:
        machine = result.statement.predicate.environment.machine
        print_line(f"trained again: other bytes than those made on {machine}")
        raise typer.Exit(1)
    print_line("trained again: the same bytes")
