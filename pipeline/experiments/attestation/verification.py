"""Compare a model, and what lies beside it, with a signed statement, without torch and MLflow."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.core import project
from pipeline.core.errors import PipelineError
from pipeline.core.git import try_git
from pipeline.experiments.attestation import envelope, files, keys, statement
from pipeline.experiments.attestation.envelope import Envelope
from pipeline.experiments.attestation.files import PUBLIC_KEY, STATEMENT
from pipeline.experiments.attestation.statement import MODEL_FOLDER, File, Statement
from pipeline.tracking import provenance

# Settings by which a repository would have git run programs.
GIT_OPTIONS = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")


@dataclass(frozen=True)
class FileComparison:
    """How files here compare with those of a statement."""

    differences: list[str]
    """Clauses, each with the name of a file."""
    same: list[str]
    """Names of files with the very bytes of the statement."""
    absent: list[str]
    """Names of files that are not here; none is the model's."""
    unread: list[str]
    """Names of shards of images that are here, and were not read."""


@dataclass(frozen=True)
class Verification:
    """A statement whose signature is right, and how the files here compare with it."""

    statement: Statement
    signer: str
    """The id of the key that signed."""
    is_signer_known: bool
    """Whether the key is one that the user named, and not the one that came with the statement."""
    files: FileComparison

    @property
    def is_proved(self) -> bool:
        return self.is_signer_known and not self.files.differences


def verify(models: Path, attestation: Path, key: Path | None, with_data: bool) -> Verification:
    """Compare a model folder with the statement in `attestation`.

    Other files are looked for beside `attestation`, under their names in the statement.

    Args:
        key: The public key of somebody whom the user trusts; None for the key in `attestation`.
        with_data: Whether to read the images too.

    Raises:
        PipelineError: there is no model folder or no statement, or its signature is not of this
            key.
    """
    if not models.is_dir():
        raise PipelineError(
            f"{models} is no folder: name the model's, such as download/models; of a registered "
            "model such as @champion, verify the folder that was attested"
        )
    source, base = attestation / STATEMENT, attestation.absolute().parent
    if not source.exists():
        raise PipelineError(
            f"there is no {source}: `pipeline attest` writes it, or name its folder with "
            "--attestation"
        )
    signed = envelope.parse(files.read(source, envelope.MAX_BYTES), str(source))
    key_file = key or attestation / PUBLIC_KEY
    public_key = keys.read_public(key_file)
    _require_signature(signed, public_key, source, key_file)
    content = statement.parse(signed.payload, str(source))
    comparison = compare_files(content, models, base, with_data)
    comparison.differences.extend(_other_key(attestation, public_key))
    comparison.differences.extend(_changed_code(content, base))
    return Verification(content, signed.key_id, key is not None, comparison)


def _require_signature(
    signed: Envelope, key: ec.EllipticCurvePublicKey, source: Path, key_file: Path
) -> None:
    key_id = keys.identify(key)
    if signed.key_id != key_id:
        raise PipelineError(
            f"{source} is signed by another key ({signed.key_id[:16]}) than {key_file} "
            f"({key_id[:16]}): do not trust it as theirs"
        )
    if not signed.is_signed_by(key):
        raise PipelineError(
            f"the signature of {source} is wrong: the statement has changed since it was signed"
        )


def compare_files(content: Statement, models: Path, base: Path, with_data: bool) -> FileComparison:
    """Compare a model folder, and files below `base`, with a statement.

    Args:
        with_data: Whether to read the images too.
    """
    result = FileComparison([], [], [], [])
    for file in content.files:
        path = _locate(file, models, base)
        if not path.exists() and file.is_of_model:
            result.differences.append(f"{file.name} is missing")
        elif not path.exists():
            result.absent.append(file.name)
        elif file.is_data and not with_data:
            result.unread.append(file.name)
        elif difference := _difference(file, path):
            result.differences.append(difference)
        else:
            result.same.append(file.name)
    result.differences.extend(_unsigned_files(content, models))
    return result


def _locate(file: File, models: Path, base: Path) -> Path:
    """Where a file of a statement is: in the model folder, or below `base`."""
    path = PurePosixPath(file.name)
    return models / path.relative_to(MODEL_FOLDER) if file.is_of_model else base / path


def _difference(file: File, path: Path) -> str:
    """A clause; "" if the file has the statement's bytes."""
    if not path.is_file():
        return f"{file.name} is no regular file"
    if path.stat().st_size != file.annotations.bytes:
        return f"{file.name} has {path.stat().st_size:,} bytes, not {file.annotations.bytes:,}"
    content = files.describe(path, file.name)
    return "" if content == file else f"{file.name} has other bytes: sha256 {content.digest.sha256}"


def _unsigned_files(content: Statement, models: Path) -> Iterator[str]:
    names = {file.name for file in content.subject}
    for name, _ in files.walk(models):
        if f"{MODEL_FOLDER}/{name}" not in names:
            yield f"{MODEL_FOLDER}/{name} is not in the statement"


def _other_key(attestation: Path, key: ec.EllipticCurvePublicKey) -> Iterator[str]:
    path = attestation / PUBLIC_KEY
    if path.exists() and files.read(path, keys.MAX_BYTES) != keys.to_pem(key):
        yield f"{path} is not the public key of the signer"


def _changed_code(content: Statement, base: Path) -> Iterator[str]:
    """The files of the project's code that differ from the statement's commit, if it has that.

    git runs in no other folder: a repository that was downloaded can have it run programs.
    """
    commit, root = content.predicate.code.commit, project.root().resolve()
    options = ("-C", str(root), *GIT_OPTIONS, "--literal-pathspecs")
    if (
        base.resolve() != root
        or try_git(*options, "cat-file", "-e", f"{commit}^{{commit}}") is None
    ):
        return
    # Literal: the name of a data set comes from a stranger, and could be a pattern.
    dataset = f"{provenance.DATASETS}/{content.predicate.dataset.name}"
    for words in (
        ("diff", "--name-only", "--no-ext-diff", "-z", commit),
        ("ls-files", "--others", "--exclude-standard", "-z"),
    ):
        listing = try_git(*options, *words, "--", "pipeline", "dvc.yaml", dataset)
        for name in (listing or "").split("\0"):
            if name:
                yield f"{name} is not as in commit {commit[:8]}"
