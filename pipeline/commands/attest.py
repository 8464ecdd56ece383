"""`pipeline attest`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.progress import show_activity
from pipeline.core.terminal import print_line

if TYPE_CHECKING:
    from pipeline.tracking.store import MlflowRun

MAX_NAMED = 3  # packages


def attest(
    run: Annotated[
        str,
        typer.Argument(
            help="The id of an MLflow run, the start of its id, or its name: the model in the "
            "workspace must be its model. Default: the run of that model, if MLflow has one.",
        ),
    ] = "",
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your private key: ECDSA on P-256, in PEM."),
    ] = None,
    onnx: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The model as ONNX, to be covered by the statement."),
    ] = None,
    new_key: Annotated[
        Path | None,
        typer.Option("--new-key", metavar="FILE", help="Write a new key to FILE, and stop."),
    ] = None,
) -> None:
    """Sign a statement about the model, in the folder `attestation`.

    The statement, in in-toto's format, has the digests of the model, data, split, params, dvc.lock,
    requirements.lock and metrics, the commit of the code, the number of images by licence, and
    which installed packages deviate from requirements.lock. It is refused if the files do not
    belong together. `pipeline verify` checks it, without network.
    With the extra `attest`, model-signing signs the model folder for OpenSSF's tools, too.

    The private key must be outside the project. PIPELINE_KEY_PASSWORD has its password, if it is
    encrypted or is to be. Strangers need FILE.pub from you in a way that they trust.

    Examples:

        pipeline attest --new-key ~/.config/pipeline/key.pem

        pipeline attest --key ~/.config/pipeline/key.pem

        pipeline attest 3f9c2ab1 --key ~/.config/pipeline/key.pem --onnx model.onnx
    """
    from pipeline.core import project
    from pipeline.experiments.attestation import keys

    project.check()
    if new_key is not None:
        public = keys.create(new_key, project.root())
        print_line(f"{new_key} is your private key; give {public} to those who verify")
        print_line(f"its id: {keys.identify(keys.read_public(public))}")
        return
    if key is None:
        raise PipelineError("name your private key with --key FILE; --new-key FILE makes one")
    show_activity("attest")
    _write(_find_run(run), key, onnx)


def _find_run(name: str) -> "MlflowRun | None":
    from pipeline.core import terminal
    from pipeline.experiments import dvc_results, run_lookup
    from pipeline.tracking import provenance

    if not name:
        try:
            return run_lookup.find_workspace_run()
        except PipelineError as error:
            terminal.warn(f"the statement names no run: {error}")
            return None
    run, result = run_lookup.find_run(name), dvc_results.workspace()
    if result is None or run.data.tags.get(provenance.MODELS) != result.models_md5:
        commit = run.data.tags.get(provenance.COMMIT, "")[:8]
        raise PipelineError(
            f"the workspace has another model than run {run.info.run_id[:8]}: restore it with "
            f"`git checkout {commit or 'COMMIT'} && dvc checkout` first"
        )
    return run


def _write(run: "MlflowRun | None", key: Path, onnx: Path | None) -> None:
    from pipeline.experiments.attestation import attestation_folder
    from pipeline.experiments.attestation.files import ATTESTATION

    run_id = "" if run is None else str(run.info.run_id)
    folder = Path(ATTESTATION)
    result = attestation_folder.write(folder, key, onnx, run_id)
    if not result.has_model_signature:
        print_line("models/ is not signed for OpenSSF's tools: pip install '.[attest]'")
    if deviations := result.statement.predicate.environment.deviations:
        more = f" and {len(deviations) - MAX_NAMED} more" if len(deviations) > MAX_NAMED else ""
        print_line(
            f"the statement says that {plural(len(deviations), 'package')} installed here "
            f"{'deviates' if len(deviations) == 1 else 'deviate'} from requirements.lock: "
            f"{', '.join(deviations[:MAX_NAMED])}{more}"
        )
    print_line(f"{folder}: {len(result.statement.files)} files, signed by {result.signer}")
    if run is not None:
        attestation_folder.log(folder, run_id)
