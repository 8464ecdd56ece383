"""Signed statements about models of a few bytes, and the keys that sign them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.experiments.attestation import envelope, keys, statement
from pipeline.experiments.attestation.files import (
    MODEL_SIGNATURE,
    PUBLIC_KEY,
    STATEMENT,
    describe,
)

MODEL = {"models/model.json": b'{"classes": []}', "models/model.safetensors": bytes(range(256))}
MATERIALS = {
    "params.yaml": b"train:\n",
    "dvc.lock": b"stages:\n",
    "requirements.lock": b"torch==2\n",
    "reports/metrics.json": b'{"accuracy": 0.5}',
    "data/split.csv": b"id,label,split,group\n",
    "data/raw/00000.arrow": b"images" * 20,
    f"attestation/{MODEL_SIGNATURE}": b"signature",
}


def key(number: int = 0) -> ec.EllipticCurvePrivateKey:
    """A private key per number; the same in a process."""
    return _generate(number)


@cache
def _generate(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def write_key(path: Path, private: Any) -> Path:
    """Write a private key of any kind as PEM."""
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(pem)
    return path


@dataclass(frozen=True)
class Bundle:
    """A folder with a model, its attestation, and what it was made from."""

    folder: Path

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def attestation(self) -> Path:
        return self.folder / "attestation"

    @property
    def covered(self) -> list[Path]:
        """The files of which no byte may change."""
        own = [self.attestation / STATEMENT, self.attestation / PUBLIC_KEY]
        return [*own, *(self.folder / name for name in (*MODEL, *MATERIALS))]

    def sign(self, content: Any, number: int = 0) -> None:
        """Sign a value as the statement."""
        payload = content if isinstance(content, bytes) else statement.render(content)
        (self.attestation / STATEMENT).write_bytes(envelope.sign(payload, key(number)))


def predicate(materials: list[statement.File]) -> statement.Predicate:
    """What a statement says of where a model comes from."""
    return statement.Predicate(
        code=statement.Code(commit="c" * 40),
        materials=materials,
        dataset=statement.Dataset(
            name="pets",
            deviation="",
            images=3,
            splits={"train": 3},
            classes={"cat": 1, "dog": 2},
            licences={"": 1, "CC BY 4.0": 2},
        ),
        metrics={"accuracy": 0.5, "loss": None, "n": 3},
        environment=statement.Environment(
            version="1", python="3", torch="2", machine="a", deviations=["numpy 1 instead of 2"]
        ),
        run="",
    )


def make_bundle(folder: Path) -> Bundle:
    """A bundle that verifies, signed with the key number 0."""
    for name, data in (MODEL | MATERIALS).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    subject, materials = (
        [describe(folder / name, name) for name in names] for names in (MODEL, MATERIALS)
    )
    bundle = Bundle(folder)
    bundle.sign(statement.create(subject, predicate(materials)))
    (bundle.attestation / PUBLIC_KEY).write_bytes(keys.to_pem(key().public_key()))
    return bundle
