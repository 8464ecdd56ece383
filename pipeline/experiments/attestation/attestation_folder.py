"""The folder that `pipeline attest` writes: a signed statement, the public key, a signature."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.core import atomic, project
from pipeline.core.file_digests import sha256
from pipeline.experiments.attestation import envelope, keys, openssf, statement, workspace
from pipeline.experiments.attestation.files import MODEL_SIGNATURE, PUBLIC_KEY, STATEMENT
from pipeline.experiments.attestation.statement import Statement
from pipeline.experiments.dvc_results import MODELS


@dataclass(frozen=True)
class Attestation:
    statement: Statement
    signer: str
    """The id of the key."""
    has_model_signature: bool
    """Whether the model folder is signed for OpenSSF's tools, too."""


def write(folder: Path, key_file: Path, onnx: Path | None, run_id: str) -> Attestation:
    """Sign a statement about the model in the workspace.

    Args:
        folder: For the files; inside the project.
        onnx: The model as ONNX, inside the project.
        run_id: Of the model's MLflow run, or "".

    Raises:
        PipelineError: the key is no good, or the workspace has no complete result.
    """
    key = keys.read_private(key_file, project.root())
    workspace.require_result()  # before anything is signed
    signature = folder / MODEL_SIGNATURE if openssf.is_installed() else None
    if signature is not None:
        openssf.sign(Path(MODELS), key_file, signature)
    else:
        (folder / MODEL_SIGNATURE).unlink(missing_ok=True)  # of an earlier model
    content = workspace.state(onnx, signature, run_id)
    with atomic.replacing(folder / STATEMENT) as staged:
        staged.write_bytes(envelope.sign(statement.render(content), key))
    with atomic.replacing(folder / PUBLIC_KEY) as staged:
        staged.write_bytes(keys.to_pem(key.public_key()))
    return Attestation(content, keys.identify(key.public_key()), signature is not None)


def log(folder: Path, run_id: str) -> None:
    """Add the signed statement to its run's artifacts, beside those of earlier attestations.

    Raises:
        PipelineError: MLflow cannot be reached.
    """
    from pipeline.tracking import store  # slow

    path = folder / STATEMENT
    store.add_file(run_id, path, f"{folder.name}/{sha256(path)[:12]}.dsse.json")
