"""Keys of people who sign: ECDSA on the curve P-256, in PEM files."""

import hashlib
import os
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.core.errors import PipelineError
from pipeline.core.git import try_git
from pipeline.experiments.attestation import files

PASSWORD = "PIPELINE_KEY_PASSWORD"  # noqa: S105 - a variable's name
CURVE = ec.SECP256R1
MAX_BYTES = 64 * 2**10  # of a key's file
DAMAGE = (ValueError, TypeError, UnsupportedAlgorithm)


def create(path: Path, project: Path) -> Path:
    """Write a new private key, readable by its owner alone, and its public key beside it.

    Returns:
        The file of the public key, for those who verify.

    Raises:
        PipelineError: the file exists, or is inside the project.
    """
    _refuse_inside(path, project)
    public = path.with_name(f"{path.name}.pub")
    for target in (path, public):
        if target.exists():
            raise PipelineError(f"{target} exists: a key is never overwritten; name another file")
    key = ec.generate_private_key(CURVE())
    secret = os.environ.get(PASSWORD, "").encode()
    encryption = (
        serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    public.write_bytes(to_pem(key.public_key()))
    return public


def read_private(path: Path, project: Path) -> ec.EllipticCurvePrivateKey:
    """Read a private key; the variable PIPELINE_KEY_PASSWORD has the password of an encrypted one.

    Args:
        project: A folder that must not contain the key, nor must the repository that it is in: it
            would be committed, or copied along.

    Raises:
        PipelineError: the key is missing, inside these, or no private key on P-256.
    """
    _refuse_inside(path, project)
    password = os.environ.get(PASSWORD, "").encode() or None
    try:
        key = serialization.load_pem_private_key(files.read(path, MAX_BYTES), password)
    except FileNotFoundError as error:
        raise PipelineError(
            f"there is no key {path}: `pipeline attest --new-key FILE` makes one"
        ) from error
    except DAMAGE as error:
        raise PipelineError(
            f"{path} is no private key in PEM, or {PASSWORD} is not its password: "
            "`pipeline attest --new-key FILE` makes one"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, CURVE):
        _refuse_kind(path)
    return key


def read_public(path: Path) -> ec.EllipticCurvePublicKey:
    """Read a public key.

    Raises:
        PipelineError: it is no public key on P-256.
    """
    try:
        key = serialization.load_pem_public_key(files.read(path, MAX_BYTES))
    except DAMAGE as error:
        raise PipelineError(f"{path} is no public key in PEM: ask the signer for it") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, CURVE):
        _refuse_kind(path)
    return key


def to_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """The text of a public key's file."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def identify(key: ec.EllipticCurvePublicKey) -> str:
    """The sha256 of a public key in DER, hex: people compare it, envelopes name keys by it."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def _refuse_inside(path: Path, project: Path) -> None:
    # In a monorepo, the project is a folder of a larger repository.
    repository = try_git("-C", str(project), "rev-parse", "--show-toplevel")
    folder = Path(repository.removesuffix("\n") if repository else project).resolve()
    # The link as well as its target: git keeps links, and copies follow them.
    places = (path.absolute().parent.resolve() / path.name, path.resolve())
    if any(place.is_relative_to(folder) for place in places):
        raise PipelineError(
            f"{path} is inside the project's repository, where a private key could be committed: "
            "keep it elsewhere, such as in ~/.config"
        )


def _refuse_kind(path: Path) -> NoReturn:
    raise PipelineError(
        f"{path} is another kind of key than ECDSA on P-256: `pipeline attest --new-key FILE` "
        "makes one"
    )
