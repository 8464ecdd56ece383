"""DSSE envelopes: a payload with its type and a signature of both.

https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import Field, ValidationError

from pipeline.core.errors import PipelineError
from pipeline.experiments.attestation import keys
from pipeline.inference import strict_json
from pipeline.params import first_error
from pipeline.params.section import Section

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_BYTES = 64 * 2**20  # of an envelope; a line for each shard of the data takes 250 bytes
Base64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$")]


class _Signature(Section):
    keyid: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    sig: Base64


class _Json(Section):
    payload: Base64
    payloadType: Literal["application/vnd.in-toto+json"]  # noqa: N815 - DSSE's name
    signatures: Annotated[list[_Signature], Field(min_length=1, max_length=1)]


@dataclass(frozen=True)
class Envelope:
    """A signed payload; nobody has checked the signature yet."""

    payload: bytes
    key_id: str
    """As `keys.identify`, by the signer's word."""
    signature: bytes
    """ECDSA with SHA-256, in DER."""

    def is_signed_by(self, key: ec.EllipticCurvePublicKey) -> bool:
        """Whether the signature is one of this key."""
        if self.key_id != keys.identify(key):
            return False
        try:
            key.verify(self.signature, _encode(self.payload), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


def sign(payload: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The bytes of an envelope's file; the same payload and key give the same bytes (RFC 6979)."""
    method = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    signature = key.sign(_encode(payload), method)
    return _render(Envelope(payload, keys.identify(key.public_key()), signature))


def parse(data: bytes, source: str) -> Envelope:
    """Parse an envelope, which must have the very bytes that `sign` writes.

    JSON and base64 have many spellings of one value. Only one is accepted, so that no byte of the
    file can change unnoticed.

    Args:
        source: The name of the file, for messages.

    Raises:
        PipelineError: it is none.
    """
    try:
        content = _Json.model_validate(strict_json.parse(data))
        (signature,) = content.signatures
        result = Envelope(_decode(content.payload), signature.keyid, _decode(signature.sig))
    except ValidationError as error:
        why = first_error(error, _Json)
        raise PipelineError(f"{source} is no signed statement: {why[:200]}") from error
    except ValueError as error:
        raise PipelineError(f"{source} is no signed statement: {str(error)[:200]}") from error
    if _render(result) != data:
        raise PipelineError(f"{source} is not as `pipeline attest` wrote it: fetch it again")
    return result


def _render(envelope: Envelope) -> bytes:
    content = {
        "payload": base64.b64encode(envelope.payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {"keyid": envelope.key_id, "sig": base64.b64encode(envelope.signature).decode()}
        ],
    }
    return strict_json.render(content)


def _encode(payload: bytes) -> bytes:
    """DSSE's encoding of what is signed: the type and the payload, with their lengths."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("a value is not in base64") from error
